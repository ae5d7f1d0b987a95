/**
 * Where a repository is and its passphrase, from the options of the mount agent: path and passphraseFile, or
 * pgBackRest's own configuration file.
 */
import { readFile } from 'node:fs/promises'
import { HowdahError } from '../../../../messages/errors.ts'
import { Passphrase } from '../../decode/aes-cbc.ts'
import { isSystemError } from '../../decode/stored-file.ts'
import type { RepositoryOptions } from '../../repository.ts'
import { readPgbackrestConfiguration } from './configuration.ts'
import type { InfoAccess } from './info-file.ts'

/** How the top of the repository, backup.info and archive.info, is read. */
export type Access = InfoAccess & { readonly passphraseFrom: string }

/** Reads what the options name at the first call; again only after a failure. @throws HowdahError `configuration` */
export function createAccess(options: RepositoryOptions): () => Promise<Access> {
  let known: Promise<Access> | undefined
  return () => {
    if (known === undefined) {
      known = readAccess(options)
      known.catch(() => {
        known = undefined
      })
    }
    return known
  }
}

async function readAccess({
  name,
  path,
  passphraseFile,
  configFile,
  repo,
  linkTargets,
}: RepositoryOptions): Promise<Access> {
  if (configFile !== undefined) {
    const { root, passphrase } = await readPgbackrestConfiguration(configFile, repo ?? 1)
    return {
      root,
      linkTargets,
      passphrase: passphrase === undefined ? undefined : new Passphrase(passphrase),
      passphraseFrom: `check repo${repo ?? 1}-cipher-type and repo${repo ?? 1}-cipher-pass in ${configFile}, the configFile of repository ${name}`,
    }
  }
  if (path === undefined) {
    throw new HowdahError('configuration', `repository ${name} has neither path nor configFile`)
  }
  return {
    root: path,
    linkTargets,
    passphrase: passphraseFile === undefined ? undefined : await readPassphrase(name, passphraseFile),
    passphraseFrom:
      passphraseFile === undefined
        ? `give repository ${name} a passphraseFile, or a configFile`
        : `check ${passphraseFile}, the passphraseFile of repository ${name}`,
  }
}

async function readPassphrase(name: string, file: string): Promise<Passphrase> {
  const wrong = (finding: string, cause?: unknown) =>
    new HowdahError('configuration', `the passphraseFile of repository ${name}, ${file}, ${finding}`, {
      cause,
    })
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    throw wrong(`cannot be read: ${isSystemError(error) ? error.code : 'unknown reason'}`, error)
  }
  // Editors end a file with a line feed, which is not part of the passphrase.
  const passphrase = text.replace(/\r?\n$/, '')
  if (passphrase === '') throw wrong('is empty')
  return new Passphrase(passphrase)
}
