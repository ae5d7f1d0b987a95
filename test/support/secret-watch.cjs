/**
 * Loaded by NODE_OPTIONS into the processes of Howdah that tests start, before their programs and in each of their threads:
 * whatever such a process logs, prints, or hands to another program is searched for secrets. A finding is written into the
 * directory that TEST_SECRETS names, and nothing is changed. CommonJS, so that any Node can load it.
 *
 * Looked at are stdout, stderr, files named *.log, and the arguments and the environment of programs that are started.
 */
'use strict'
const childProcess = require('node:child_process')
const fs = require('node:fs')
const { syncBuiltinESMExports } = require('node:module')
const path = require('node:path')
const { isMainThread, threadId } = require('node:worker_threads')

const directory = process.env.TEST_SECRETS
/** The programs of Howdah, from the sources or built. */
const OWN = /\/(agents|coordinator)\/.*main\.(ts|js)$/

const KINDS = [
  // What tests use as passwords and passphrases.
  ['a planted secret', /correct-horse-battery/],
  ['a private key', /-----BEGIN [A-Z ]*PRIVATE KEY/],
  ['a ticket', /\bhowdah1\.[\w-]{20,}\.[\w-]{20,}/],
  // Not the one that help texts have for an example.
  ['a password in a URL', /\b[a-z]+:\/\/(?!user:password@)[^\s/:@"'\\]*:[^\s/@"'\\]+@/],
]
const EXCERPT = 60

function look(where, text) {
  for (const [kind, pattern] of KINDS) {
    const found = pattern.exec(text)
    if (found === null) continue
    const excerpt = text.slice(Math.max(0, found.index - EXCERPT), found.index + found[0].length + EXCERPT)
    const at = new Error().stack
      ?.split('\n')
      .filter((line) => OWN_FRAME.test(line))
      .slice(0, 4)
    const finding = { kind, where, program: process.argv.slice(1).join(' '), excerpt, at }
    try {
      appendFileSync(path.join(directory, `${process.pid}-${threadId}.jsonl`), `${JSON.stringify(finding)}\n`)
    } catch {
      // Of a process that cannot write there, such as one of a user that tests removed.
    }
  }
}
const OWN_FRAME = /\/(agents|coordinator|messages|config)\//
const { appendFileSync, readlinkSync, writeSync } = fs

function isLog(fd) {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).endsWith('.log')
  } catch {
    return false
  }
}

function watch() {
  // What pino writes with. Only text: data of files and of the FUSE device is in buffers.
  fs.writeSync = (fd, data, ...rest) => {
    if (typeof data === 'string' && (fd === 1 || fd === 2 || isLog(fd))) look('its log', data)
    return writeSync(fd, data, ...rest)
  }
  for (const name of ['stdout', 'stderr']) {
    const stream = process[name]
    const write = stream.write.bind(stream)
    stream.write = (chunk, ...rest) => {
      look(name, typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('latin1'))
      return write(chunk, ...rest)
    }
  }
  const { spawn } = childProcess.ChildProcess.prototype
  childProcess.ChildProcess.prototype.spawn = function (options) {
    lookAtProgram(options.args, options.envPairs)
    return spawn.call(this, options)
  }
  for (const name of ['spawnSync', 'execFileSync']) {
    const original = childProcess[name]
    childProcess[name] = (file, ...rest) => {
      const args = Array.isArray(rest[0]) ? rest[0] : []
      const options = (Array.isArray(rest[0]) ? rest[1] : rest[0]) ?? {}
      lookAtProgram(
        [file, ...args],
        Object.entries(options.env ?? process.env).map((pair) => pair.join('=')),
      )
      return original(file, ...rest)
    }
  }
  syncBuiltinESMExports()
}

function lookAtProgram(args, environment) {
  for (const word of args ?? []) look(`an argument of ${args[0]}`, String(word))
  for (const pair of environment ?? []) look(`the environment of ${args?.[0]}`, String(pair))
}

// A thread does not know its program yet, and gets a copy of the environment.
if (isMainThread && OWN.test(process.argv[1] ?? '')) process.env.TEST_SECRETS_WATCHED = String(process.pid)
if (directory !== undefined && process.env.TEST_SECRETS_WATCHED === String(process.pid)) watch()
