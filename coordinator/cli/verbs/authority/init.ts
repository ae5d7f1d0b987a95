/** `howdah authority init`: makes the authority of a fleet. */
import { ensureAuthority } from '../../../fleet/authority/certificates.ts'
import { jsonOption } from '../../options.ts'
import { defineVerb } from '../../verb.ts'
import {
  type AuthorityOptions,
  authorityExitStatus,
  authorityFiles,
  directoryOption,
  printAuthority,
} from './authority-directory.ts'

export const init = defineVerb<AuthorityOptions>({
  name: 'authority init',
  summary: 'make the authority of a fleet',
  description: [
    'Makes the key and the certificate of an authority, which is valid for ten years, and prints its fingerprint. An ' +
      'authority that is there already is kept; from 180 days before its end that is warned of.',
  ],
  options: [directoryOption, jsonOption('Print {"fingerprint": …, "notAfter": …}.')],
  exitStatus: authorityExitStatus,
  environment: [],
  files: authorityFiles,
  examples: [
    ['howdah authority init --directory /etc/howdah/authority', 'On the machine of the coordinator.'],
  ],
  async run({ context, options }) {
    const warn = (text: string): void => context.stderr.line(text)
    printAuthority(context, options, await ensureAuthority(options.directory, { warn }))
    return 0
  },
})
