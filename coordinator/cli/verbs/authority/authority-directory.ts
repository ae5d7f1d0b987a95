/** What the actions of `howdah authority` have in common: the directory, and what is said of an authority. */
import type { X509Certificate } from 'node:crypto'
import path from 'node:path'
import { fingerprintOf } from '../../../fleet/authority/fingerprint.ts'
import { type Context, printJson } from '../../context.ts'
import type { Entry, OptionDescription } from '../../verb-description.ts'

export interface AuthorityOptions {
  readonly directory: string
  readonly json?: true
}

export const directoryOption: OptionDescription = {
  flags: '--directory <DIR>',
  description: 'Directory of the authority.',
  required: true,
  parse: (text) => path.resolve(text),
}

export const authorityFiles: readonly Entry[] = [
  ['DIR/ca.pem', 'The certificate of the authority, for everybody.'],
  ['DIR/ca.key', 'Its key. Keep a copy in a safe place.'],
]

export const authorityExitStatus: readonly Entry[] = [
  ['0', 'Done.'],
  ['1', 'A file could not be read or written; the message says which.'],
  ['2', 'Wrong usage; nothing was done.'],
]

export function printAuthority(context: Context, options: AuthorityOptions, ca: X509Certificate): void {
  const fingerprint = fingerprintOf(ca)
  const notAfter = ca.validToDate.toISOString()
  if (options.json === true) printJson(context, { fingerprint, notAfter })
  else context.stdout.line(`${fingerprint}  valid until ${notAfter}`)
}
