/** `howdah authority show`: the fingerprint of the authority of a fleet. */
import { X509Certificate } from 'node:crypto'
import { openAuthority } from '../../../fleet/authority/authority.ts'
import { jsonOption } from '../../options.ts'
import { defineVerb } from '../../verb.ts'
import {
  type AuthorityOptions,
  authorityExitStatus,
  authorityFiles,
  directoryOption,
  printAuthority,
} from './authority-directory.ts'

export const show = defineVerb<AuthorityOptions>({
  name: 'authority show',
  summary: 'print the fingerprint of an authority',
  description: [
    'Prints the fingerprint of the authority and when it expires, if its key fits its certificate.',
  ],
  options: [directoryOption, jsonOption('Print {"fingerprint": …, "notAfter": …}.')],
  exitStatus: authorityExitStatus,
  environment: [],
  files: authorityFiles,
  examples: [
    ['howdah authority show --directory /etc/howdah/authority', 'To compare it with another machine.'],
  ],
  async run({ context, options }) {
    const authority = await openAuthority(options.directory)
    printAuthority(context, options, new X509Certificate(authority.certificate))
    const warning = authority.warning()
    if (warning !== undefined) context.stderr.line(warning)
    return 0
  },
})
