/**
 * The operations as the package fuse-native calls them: resolves paths to inodes, and converts attributes and errors to
 * the form of its native part. Keeps the file handles of libfuse.
 *
 * A limit of the package: `utimens` receives only the access time, in milliseconds; both times are set to it.
 */
import { constants } from 'node:os'
import {
  type AttributeChanges,
  type Attributes,
  type Caller,
  type FileSystem,
  FileSystemError,
  type Ino,
  type MaybePromise,
} from '../file-system.ts'
import { createPathResolver, type PathResolver } from './path-resolver.ts'
import { clampedTime } from './times.ts'

export type Done = (result: number, value?: unknown) => void

const UNCHANGED_ID = 0xffffffff
/** The package passes handles in 32 bits. */
const MAX_HANDLE = 0x7fffffff
const S_IFMT = 0o170000
const S_IFREG = 0o100000
const S_IFDIR = 0o040000

/** Runs an operation; `reply` answers with its value, an error is answered here. */
export function answer<T>(done: Done, work: () => MaybePromise<T>, reply: (value: T) => void): void {
  try {
    const value = work()
    if (value instanceof Promise) value.then(reply).catch((error: unknown) => done(errnoOf(error)))
    else reply(value)
  } catch (error) {
    done(errnoOf(error))
  }
}

function errnoOf(error: unknown): number {
  const name = error instanceof FileSystemError ? error.errno : 'EIO'
  return -((constants.errno as Record<string, number>)[name] ?? constants.errno.EIO)
}

/** Calls `next` with the value, synchronously unless it is a promise. */
function after<T, U>(value: MaybePromise<T>, next: (value: T) => MaybePromise<U>): MaybePromise<U> {
  return value instanceof Promise ? value.then(next) : next(value)
}

/** What all operations of a mount share. */
interface Shared {
  readonly fileSystem: FileSystem
  readonly paths: PathResolver
  readonly handles: OpenFiles
  /** Owns new files, because the package does not pass the calling user. */
  readonly caller: Caller
  /** Calls `work` with the directory of a path and its last component. */
  inParent<T>(path: string, work: (directory: Ino, name: string) => MaybePromise<T>): MaybePromise<T>
  /** Makes a file of any type but directory and symbolic link; it has one reference. */
  mknod(path: string, mode: number, device: number): MaybePromise<Ino>
}

/** The operations as fuse-native calls them: path first, callback last. `caller` owns new files. */
export function pathOperations(fileSystem: FileSystem, caller: Caller) {
  const paths = createPathResolver(fileSystem)
  const handles = openFiles(fileSystem)

  function attributesOf(path: string, handle?: number): MaybePromise<Attributes> {
    const ino = handle === undefined ? undefined : handles.find(handle)
    return ino === undefined
      ? after(paths.resolve(path), (found) => fileSystem.getattr(found))
      : fileSystem.getattr(ino)
  }

  function inParent<T>(
    path: string,
    work: (directory: Ino, name: string) => MaybePromise<T>,
  ): MaybePromise<T> {
    return after(paths.parent(path), ({ directory, name }) => work(directory, name))
  }

  function mknod(path: string, mode: number, device: number): MaybePromise<Ino> {
    return inParent(path, (directory, name) => fileSystem.mknod(directory, name, mode, device, caller).ino)
  }

  const shared: Shared = { fileSystem, paths, handles, caller, inParent, mknod }
  const operations = {
    ...directoryOperations(shared),
    ...nameOperations(shared),
    ...attributeOperations(shared),
    ...fileOperations(shared),
  }
  return { operations, attributesOf }
}

const ok = (done: Done) => () => done(0)

/** Of the mount and of directories. */
function directoryOperations({ fileSystem, paths }: Shared) {
  return {
    statfs(_path: string, done: Done) {
      answer(
        done,
        () => fileSystem.statfs(),
        (statistics) => {
          // The package passes 32 bits of each count.
          let scale = 1
          while (statistics.blocks / scale > 0xffffffff) scale *= 2
          const { blockSize, blocks, freeBlocks, availableBlocks, files, freeFiles } = statistics
          done(0, {
            bsize: blockSize * scale,
            frsize: blockSize * scale,
            blocks: Math.floor(blocks / scale),
            bfree: Math.floor(freeBlocks / scale),
            bavail: Math.floor(availableBlocks / scale),
            files: Math.min(files, 0xffffffff),
            ffree: Math.min(freeFiles, 0xffffffff),
            favail: Math.min(freeFiles, 0xffffffff),
            namemax: 255,
          })
        },
      )
    },
    readdir(path: string, done: (result: number, names?: unknown, types?: unknown) => void) {
      answer(
        done,
        () =>
          after(paths.resolve(path), (ino) =>
            after(fileSystem.readdir(ino), (entries) => [
              { name: '.', ino, type: S_IFDIR },
              { name: '..', ino: fileSystem.parent(ino), type: S_IFDIR },
              ...entries,
            ]),
          ),
        (all) => {
          done(
            0,
            all.map(({ name }) => name),
            all.map(({ ino, type }) => ({ ino, mode: type })),
          )
        },
      )
    },
    fsyncdir(path: string, _dataOnly: number, _handle: number, done: Done) {
      answer(done, () => after(paths.resolve(path), (ino) => fileSystem.fsyncdir(ino)), ok(done))
    },
  }
}

/** Making, linking, renaming and removing names. */
function nameOperations({ fileSystem, paths, caller, inParent, mknod }: Shared) {
  /** libfuse does not pass on the kernel's references, so the one that a new name takes is dropped at once. */
  function drop({ ino }: Attributes): void {
    fileSystem.forget(ino, 1)
  }

  function unlink(path: string): MaybePromise<void> {
    return inParent(path, (directory, name) => {
      if (!paths.unhide(directory, name)) fileSystem.unlink(directory, name)
    })
  }

  function rename(from: string, to: string): MaybePromise<void> {
    return inParent(from, (directory, name) =>
      inParent(to, (newDirectory, newName) => {
        if (!paths.isHidden(newName)) {
          return fileSystem.rename(directory, name, newDirectory, newName, 'replace')
        }
        return after(paths.resolve(from), (ino) => {
          fileSystem.unlink(directory, name)
          paths.hide(newDirectory, newName, ino)
        })
      }),
    )
  }

  return {
    readlink(path: string, done: Done) {
      answer(
        done,
        () => after(paths.resolve(path), (ino) => fileSystem.readlink(ino)),
        (target) => done(0, target),
      )
    },
    mkdir(path: string, mode: number, done: Done) {
      const work = () =>
        inParent(path, (directory, name) => drop(fileSystem.mkdir(directory, name, mode, caller)))
      answer(done, work, ok(done))
    },
    symlink(target: string, path: string, done: Done) {
      const work = () =>
        inParent(path, (directory, name) => drop(fileSystem.symlink(directory, name, target, caller)))
      answer(done, work, ok(done))
    },
    link(path: string, newPath: string, done: Done) {
      const work = () =>
        after(paths.resolve(path), (ino) =>
          inParent(newPath, (directory, name) => drop(fileSystem.link(ino, directory, name))),
        )
      answer(done, work, ok(done))
    },
    mknod(path: string, mode: number, device: number, done: Done) {
      const work = () => after(mknod(path, mode, device), (ino) => fileSystem.forget(ino, 1))
      answer(done, work, ok(done))
    },
    unlink(path: string, done: Done) {
      answer(done, () => unlink(path), ok(done))
    },
    rmdir(path: string, done: Done) {
      answer(done, () => inParent(path, (directory, name) => fileSystem.rmdir(directory, name)), ok(done))
    },
    rename(from: string, to: string, done: Done) {
      answer(done, () => rename(from, to), ok(done))
    },
  }
}

function attributeOperations({ fileSystem, paths, handles }: Shared) {
  function set(path: string, changes: AttributeChanges, done: Done): void {
    answer(done, () => after(paths.resolve(path), (ino) => fileSystem.setattr(ino, changes)), ok(done))
  }

  return {
    truncate(path: string, size: number, done: Done) {
      set(path, { size }, done)
    },
    ftruncate(path: string, handle: number, size: number, done: Done) {
      const ino = handles.find(handle)
      if (ino === undefined) return set(path, { size }, done)
      answer(done, () => fileSystem.setattr(ino, { size }), ok(done))
    },
    chmod(path: string, mode: number, done: Done) {
      set(path, { mode }, done)
    },
    chown(path: string, uid: number, gid: number, done: Done) {
      set(path, { ...(uid !== UNCHANGED_ID && { uid }), ...(gid !== UNCHANGED_ID && { gid }) }, done)
    },
    utimens(path: string, atime: number, mtime: number, done: Done) {
      set(path, { atime: nanoseconds(atime), mtime: nanoseconds(mtime) }, done)
    },
  }
}

/** Of open files. */
function fileOperations({ fileSystem, paths, handles, mknod }: Shared) {
  return {
    open(path: string, _flags: number, done: Done) {
      const work = () =>
        after(paths.resolve(path), (ino) => {
          fileSystem.remember(ino)
          return handles.add(ino)
        })
      answer(done, work, (handle) => done(0, handle))
    },
    create(path: string, mode: number, done: Done) {
      const work = () => after(mknod(path, (mode & ~S_IFMT) | S_IFREG, 0), (ino) => handles.add(ino))
      answer(done, work, (handle) => done(0, handle))
    },
    read(_path: string, handle: number, buffer: Buffer, length: number, position: number, done: Done) {
      answer(done, () => fileSystem.read(handles.get(handle), buffer, length, position), done)
    },
    write(_path: string, handle: number, buffer: Buffer, length: number, position: number, done: Done) {
      answer(done, () => fileSystem.write(handles.get(handle), buffer, length, position), done)
    },
    fsync(_path: string, _dataOnly: number, handle: number, done: Done) {
      answer(done, () => fileSystem.fsync(handles.get(handle)), ok(done))
    },
    release(_path: string, handle: number, done: Done) {
      answer(done, () => handles.release(handle), ok(done))
    },
  }
}

type OpenFiles = ReturnType<typeof openFiles>

/** Open files of libfuse; each holds one reference to its inode, so that an unlinked file exists while it is open. */
function openFiles(fileSystem: FileSystem) {
  const inodes = new Map<number, Ino>()
  let last = 0

  return {
    /** Takes over a reference that the caller holds. */
    add(ino: Ino): number {
      do last = last >= MAX_HANDLE ? 1 : last + 1
      while (inodes.has(last))
      inodes.set(last, ino)
      return last
    },
    find: (handle: number) => inodes.get(handle),
    /** @throws FileSystemError EBADF */
    get(handle: number): Ino {
      const ino = inodes.get(handle)
      if (ino === undefined) throw new FileSystemError('EBADF')
      return ino
    },
    release(handle: number): void {
      const ino = inodes.get(handle)
      if (inodes.delete(handle) && ino !== undefined) fileSystem.forget(ino, 1)
    },
  }
}

/** The package passes times as unsigned numbers of 64 bits. */
function nanoseconds(milliseconds: number): bigint {
  const signed = milliseconds < 2 ** 63 ? milliseconds : milliseconds - 2 ** 64
  return clampedTime(BigInt(Math.floor(signed)) * 1_000_000n)
}

/** Attributes in the form of fuse-native's native part: 18 words, times in milliseconds. */
export function encodeAttributes(attributes: Attributes): Uint32Array {
  const words = new Uint32Array(18)
  words[0] = attributes.mode
  words[1] = attributes.uid
  words[2] = attributes.gid
  long(3, attributes.size)
  words[6] = attributes.nlink
  words[7] = attributes.ino
  words[9] = 8192
  long(10, attributes.allocated / 512)
  long(12, milliseconds(attributes.atime))
  long(14, milliseconds(attributes.mtime))
  long(16, milliseconds(attributes.ctime))
  return words

  function milliseconds(time: bigint): number {
    return time < 0n ? 0 : Number(time / 1_000_000n)
  }

  function long(at: number, value: number): void {
    words[at] = value % 0x100000000
    words[at + 1] = Math.floor(value / 0x100000000)
  }
}
