/**
 * Owns the layout of the source tree: which rooms there are, which of our rooms and which libraries each may import,
 * and that no file imports itself by way of others, not even for a type.
 */
import { existsSync, globSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { basename, dirname, join, normalize } from 'node:path'
import { expect } from 'chai'

const ROOT = join(import.meta.dirname, '..')

interface Room {
  /** Rooms of ours that it may import, beside itself. */
  readonly rooms: readonly string[]
  /** Libraries that it may import. */
  readonly libraries: readonly string[]
}

/** A file belongs to the room with the longest path that it is in. */
const ROOMS: Readonly<Record<string, Room>> = {
  messages: { rooms: [], libraries: ['amqplib', 'zod'] },
  config: {
    rooms: ['messages'],
    // @peculiar/x509 asks its user to load reflect-metadata.
    libraries: ['convict', 'pino', 'prom-client', '@peculiar/x509', 'reflect-metadata'],
  },
  'config/ssh': { rooms: [], libraries: [] },
  coordinator: {
    rooms: ['coordinator/fleet', 'messages', 'config'],
    libraries: ['pg', 'prom-client', 'zod'],
  },
  'coordinator/cli': {
    rooms: ['coordinator/fleet', 'messages', 'config'],
    libraries: ['commander', 'zod'],
  },
  'coordinator/fleet': {
    rooms: ['config/ssh', 'messages', 'config'],
    // @peculiar/x509 asks its user to load reflect-metadata.
    libraries: ['@peculiar/x509', 'reflect-metadata', 'ssh2', 'ssh-config', 'zod'],
  },
  'agents/runtime': { rooms: ['messages', 'config'], libraries: ['prom-client'] },
  'agents/dataplane': { rooms: ['messages'], libraries: ['zod'] },
  'agents/wal': { rooms: ['messages'], libraries: [] },
  'agents/mount': {
    rooms: ['agents/wal', 'agents/runtime', 'agents/dataplane', 'messages', 'config'],
    libraries: ['hash-wasm', 'lz4-napi', 'prom-client', 'seek-bzip'],
  },
  'agents/target': {
    rooms: ['agents/wal', 'agents/runtime', 'config/ssh', 'agents/dataplane', 'messages', 'config'],
    libraries: ['zod', 'fuse-native', 'pg', 'prom-client', 'ssh2'],
  },
}

/** Libraries of which any room may import types. */
const TYPES_ANYWHERE = ['pino']

interface Import {
  readonly specifier: string
  readonly typesOnly: boolean
}

const STATEMENT =
  /^[ \t]*(?:import|export)\s+(?:(type)\s+(?!from\b|,))?(?:[\w$*{}\s,]*?\bfrom\s*)?(['"])([^'"\n]+)\2/gm
const CALL = /\b(?:import|require)\(\s*(['"])([^'"\n]+)\1/g

function importsOf(source: string): Import[] {
  const code = source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '')
  return [
    ...Array.from(code.matchAll(STATEMENT), (match) => ({
      specifier: match[3] ?? '',
      typesOnly: match[1] !== undefined,
    })),
    ...Array.from(code.matchAll(CALL), (match) => ({ specifier: match[2] ?? '', typesOnly: false })),
  ]
}

const sources = globSync('{agents,coordinator,messages,config}/**/*.ts', { cwd: ROOT }).sort()
const files = new Map(
  sources.map((path) => [path, importsOf(readFileSync(join(ROOT, path), 'utf8'))] as const),
)

function roomOf(path: string): string | undefined {
  return Object.keys(ROOMS)
    .filter((room) => path.startsWith(`${room}/`))
    .sort((a, b) => b.length - a.length)[0]
}

/** The file of ours that a specifier names, relative to the root; undefined for a library or a part of Node. */
function ownFile(importer: string, specifier: string): string | undefined {
  return specifier.startsWith('.') ? normalize(join(dirname(importer), specifier)) : undefined
}

function libraryOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
}

/** `judge` returns what is wrong with one import, or undefined. */
function offences(judge: (importer: string, one: Import) => string | undefined): string[] {
  return [...files].flatMap(([importer, imports]) =>
    imports.flatMap((one) => {
      const wrong = judge(importer, one)
      return wrong === undefined ? [] : [`${importer} imports ${one.specifier}: ${wrong}`]
    }),
  )
}

/**
 * The circles among imports, those of types alone too, each as the path that leads back to its first file. A depth-first
 * search: one circle at least is found for every group of files that reach each other.
 */
function circles(imports: ReadonlyMap<string, readonly Import[]>): string[] {
  const found: string[] = []
  const done = new Set<string>()
  const visit = (path: string, trail: readonly string[]): void => {
    const seen = trail.indexOf(path)
    if (seen !== -1) {
      found.push([...trail.slice(seen), path].join(' → '))
      return
    }
    if (done.has(path)) return
    for (const { specifier } of imports.get(path) ?? []) {
      const next = ownFile(path, specifier)
      if (next !== undefined) visit(next, [...trail, path])
    }
    done.add(path)
  }
  for (const path of imports.keys()) visit(path, [])
  return found
}

describe('the layout of the source tree', () => {
  it('has every room and every file that a visitor looks for', () => {
    const expected = [
      ...['coordinator', 'agents', 'messages', 'config', 'test', 'docs'],
      ...[
        'docker-compose.yml',
        'package.json',
        'tsconfig.json',
        'README.md',
        'ARCHITECTURE.md',
        'CONTRIBUTING.md',
        'LICENSE',
      ],
      ...['bin/howdah', ...Object.keys(ROOMS)],
    ]
    expect(expected.filter((path) => !existsSync(join(ROOT, path)))).to.deep.equal([])
  })

  it('has each source file in a room', () => {
    expect(sources).to.not.be.empty
    expect(sources.filter((path) => roomOf(path) === undefined)).to.deep.equal([])
  })

  it('lets a room import only the rooms it may', () => {
    const wrong = offences((importer, { specifier }) => {
      const file = ownFile(importer, specifier)
      if (file === undefined) return undefined
      const [from, to] = [roomOf(importer), roomOf(file)]
      if (from === undefined || to === from) return undefined
      if (to === undefined) return 'is in no room'
      return ROOMS[from]?.rooms.includes(to) ? undefined : `${from} may not import ${to}`
    })
    expect(wrong).to.deep.equal([])
  })

  it('lets a room import only the libraries it may', () => {
    const wrong = offences((importer, { specifier, typesOnly }) => {
      if (specifier.startsWith('.') || isBuiltin(specifier)) return undefined
      const [room, library] = [roomOf(importer), libraryOf(specifier)]
      if (typesOnly && TYPES_ANYWHERE.includes(library)) return undefined
      return room !== undefined && ROOMS[room]?.libraries.includes(library)
        ? undefined
        : `${room} may not import it`
    })
    expect(wrong).to.deep.equal([])
  })

  it('permits no room and no library that is not imported', () => {
    const used = (room: string, judge: (file: string | undefined, specifier: string) => boolean) =>
      [...files].some(
        ([importer, imports]) =>
          roomOf(importer) === room &&
          imports.some(({ specifier }) => judge(ownFile(importer, specifier), specifier)),
      )
    const needless = Object.entries(ROOMS).flatMap(([room, { rooms, libraries }]) =>
      [
        ...rooms.filter((other) => !used(room, (file) => file !== undefined && roomOf(file) === other)),
        ...libraries.filter(
          (library) =>
            !used(room, (file, specifier) => file === undefined && libraryOf(specifier) === library),
        ),
      ].map((permitted) => `${room}: ${permitted}`),
    )
    expect(needless).to.deep.equal([])
  })

  it('never lets the coordinator and the agents import each other', () => {
    const top = (path: string) => path.split('/')[0] ?? ''
    const wrong = offences((importer, { specifier }) => {
      const file = ownFile(importer, specifier)
      if (file === undefined) return undefined
      const pair = [top(importer), top(file)].sort().join(' ')
      return pair === 'agents coordinator' ? 'they talk by messages only' : undefined
    })
    expect(wrong).to.deep.equal([])
  })

  it('reads configuration in main.ts files only', () => {
    const wrong = offences((importer, { specifier, typesOnly }) =>
      ownFile(importer, specifier) === 'config/load.ts' &&
      basename(importer) !== 'main.ts' &&
      !importer.startsWith('config/') &&
      !typesOnly
        ? 'hand the values in instead'
        : undefined,
    )
    expect(wrong).to.deep.equal([])
  })

  it('has no import circles between files, not even of types', () => {
    expect(circles(files)).to.deep.equal([])
  })

  it('finds a circle through types, a circle of two files and a file that imports itself', () => {
    const imports = new Map([
      ['a/one.ts', importsOf("import type { Two } from './two.ts'")],
      ['a/two.ts', importsOf("import { three } from '../b/three.ts'")],
      ['b/three.ts', importsOf("export * from '../a/one.ts'\nimport './four.ts'")],
      ['b/four.ts', importsOf("import './five.ts'")],
      ['b/five.ts', importsOf("import { type Four } from './four.ts'\nimport './six.ts'")],
      ['b/six.ts', importsOf("import './six.ts'\nimport 'pg'")],
    ])
    expect(circles(imports)).to.deep.equal([
      'a/one.ts → a/two.ts → b/three.ts → a/one.ts',
      'b/four.ts → b/five.ts → b/four.ts',
      'b/six.ts → b/six.ts',
    ])
  })

  it('recognises every way to import', () => {
    const source = `
      import type { A } from 'a'
      import b, { type B } from "b"
      import * as c from 'c'
      import 'd'
      export { e } from 'e'
      export * from 'f'
      // import nothing from 'no'
      /* import nothing from 'no' */
      const g = await import('g')
      const h = require('h')
      import {
        i,
        type I,
      } from 'i'
      const text = "import x from"
    `
    expect(
      importsOf(source)
        .map(({ specifier }) => specifier)
        .sort(),
    ).to.deep.equal([...'abcdefghi'])
    expect(importsOf(source).filter(({ typesOnly }) => typesOnly)).to.deep.equal([
      { specifier: 'a', typesOnly: true },
    ])
  })
})
