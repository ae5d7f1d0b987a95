/** The steps of the power cut test that are operations of the engine, done on it and noted in the model. */

import type { Engine } from '../../../agents/target/filesystem/engine.ts'
import {
  type Fallocate,
  FileSystemError,
  type Ino,
  type RenameMode,
} from '../../../agents/target/filesystem/file-system.ts'
import { ROOT } from '../../../agents/target/filesystem/tree/base-tree.ts'
import { pattern } from '../../filesystem/support/memory-source.ts'
import { place } from './cut-look.ts'
import type { CutModel } from './cut-model.ts'
import type { Operation } from './operations.ts'

const CALLER = { uid: 77, gid: 88 }
const S_IFMT = 0o170000
const S_IFREG = 0o100000

export interface Acting {
  readonly engine: Engine
  readonly model: CutModel
  /** Inodes that are referenced as open files are. */
  readonly held: Ino[]
  /** Notes what is durable when a sync has succeeded. */
  whenDone(promise: Promise<void>, note: () => void): void
}

/** @throws FileSystemError as the engine does; Error when a read is wrong */
export async function actOn({ engine, model, held, whenDone }: Acting, operation: Operation): Promise<void> {
  const find = async (path: string): Promise<Ino> => {
    const [parent, name] = await place(engine, path)
    const { ino } = await engine.lookup(parent, name)
    engine.forget(ino, 1)
    return ino
  }
  const file = async (operation: Operation): Promise<Ino> => {
    const ino = await find(String(operation.file))
    if ((engine.getattr(ino).mode & S_IFMT) !== S_IFREG) throw new FileSystemError('EISDIR')
    if (!model.knows(ino)) model.noteContent(ino, Buffer.alloc(0))
    return ino
  }

  const number = (field: string) => Number(operation[field])
  const { step } = model
  switch (operation.op) {
    case 'write': {
      const ino = await file(operation)
      const at = number('at')
      const data = pattern(number('length'), number('fill'))
      const before = model.content(ino)
      const after = Buffer.alloc(Math.max(before.length, at + data.length))
      before.copy(after)
      data.copy(after, at)
      model.noteContent(ino, after)
      await engine.write(ino, data, data.length, at)
      return
    }
    case 'read': {
      const ino = await file(operation)
      const data = Buffer.alloc(number('length'))
      const got = await engine.read(ino, data, data.length, number('at'))
      const right = model.content(ino).subarray(number('at'), number('at') + data.length)
      if (!right.equals(data.subarray(0, got))) throw new Error(`${operation.file} is read wrong`)
      return
    }
    case 'read-aside': {
      // Still under way when other steps are done, so what it gives may be of before or after them.
      const ino = await file(operation)
      engine.remember(ino)
      const data = Buffer.alloc(number('length'))
      const reading = async () => engine.read(ino, data, data.length, number('at'))
      reading()
        .catch(() => undefined)
        .finally(() => engine.forget(ino, 1))
      return
    }
    case 'resize': {
      const ino = await file(operation)
      const after = Buffer.alloc(number('size'))
      model.content(ino).copy(after)
      model.noteContent(ino, after)
      await engine.setattr(ino, { size: number('size') })
      return
    }
    case 'allocate': {
      const ino = await file(operation)
      const at = number('at')
      const length = number('length')
      const before = model.content(ino)
      const grows = operation.how !== 'punch-hole' && at + length > before.length
      const after = Buffer.alloc(grows ? at + length : before.length)
      before.copy(after)
      if (operation.how !== 'allocate')
        after.fill(0, Math.min(at, after.length), Math.min(at + length, after.length))
      model.noteContent(ino, after)
      const what = operation.how as Fallocate['what']
      await engine.fallocate(ino, { what, keepSize: what === 'punch-hole' }, at, length)
      return
    }
    case 'make': {
      const [parent, name] = await place(engine, String(operation.file))
      const { ino } = engine.mknod(parent, name, S_IFREG | 0o600, 0, CALLER)
      model.noteContent(ino, Buffer.alloc(0))
      engine.forget(ino, 1)
      return
    }
    case 'mkdir': {
      const [parent, name] = await place(engine, String(operation.directory))
      engine.forget(engine.mkdir(parent, name, 0o700, CALLER).ino, 1)
      return
    }
    case 'rmdir':
      return engine.rmdir(...(await place(engine, String(operation.directory))))
    case 'unlink':
      return engine.unlink(...(await place(engine, String(operation.file))))
    case 'rename': {
      const [from, to] = [
        await place(engine, String(operation.file)),
        await place(engine, String(operation.to)),
      ]
      return engine.rename(...from, ...to, operation.how as RenameMode)
    }
    case 'link': {
      const ino = await find(String(operation.file))
      engine.forget(engine.link(ino, ...(await place(engine, String(operation.to)))).ino, 1)
      return
    }
    case 'symlink': {
      const [parent, name] = await place(engine, String(operation.file))
      engine.forget(engine.symlink(parent, name, 'some/where', CALLER).ino, 1)
      return
    }
    case 'chmod':
      await engine.setattr(await find(String(operation.file)), { mode: number('mode') })
      return
    case 'hold': {
      const ino = await file(operation)
      engine.remember(ino)
      held.push(ino)
      return
    }
    case 'let-go': {
      const ino = held.shift()
      if (ino !== undefined) engine.forget(ino, 1)
      return
    }
    case 'fsync': {
      const ino = await file(operation)
      const renamed = model.lastRename(ino)
      return whenDone(engine.fsync(ino), () => model.fileDurable(ino, step, renamed))
    }
    case 'fsyncdir':
      return whenDone(engine.fsyncdir(ROOT), () => model.namesDurable(step))
    case 'sync-changed':
      // Joins one that runs already, so that what it makes durable is not certain.
      return whenDone(engine.syncChanged(), () => undefined)
    case 'flush-fetched':
      return engine.flushFetched()
    case 'flush':
      return whenDone(engine.flush(), () => {
        model.allContentsDurable(step)
        model.namesDurable(step)
      })
    default:
      throw new Error(`there is no step ${operation.op}`)
  }
}
