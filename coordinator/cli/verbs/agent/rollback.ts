/** `howdah agent rollback`: the version before an upgrade, on servers that have agents. */
import { rollBackHost } from '../../../fleet/install/change-version.ts'
import { askingOptions, clientEnvironment, clientExitStatus, clientFiles, jsonOption } from '../../options.ts'
import { allOption, hostsArgument } from '../../remote/chosen-hosts.ts'
import { SSH_DESCRIPTION, sshEnvironment, sshFiles, sshOptions } from '../../remote/options.ts'
import {
  batchOption,
  changeVersions,
  type VersionOptions,
  wavesExitStatus,
} from '../../remote/version-change.ts'
import { type Call, defineVerb } from '../../verb.ts'

export const rollback = defineVerb<VersionOptions>({
  name: 'agent rollback',
  summary: 'go back to the version before, over SSH',
  description: [
    'Makes the version that was current before the last upgrade the current one again and restarts the agents of the ' +
      'servers in it; published instances stay up. It is still there, so nothing is uploaded. The same command again ' +
      'goes forth again.',
    SSH_DESCRIPTION,
  ],
  arguments: [hostsArgument],
  options: [
    allOption,
    batchOption,
    ...sshOptions,
    jsonOption(
      'Print {"done": […], "changed": […], "failed": [{"host", "error"}, …], "untouched": […]} as one JSON document; progress goes to stderr.',
    ),
    ...askingOptions('none'),
  ],
  exitStatus: [...wavesExitStatus, ...clientExitStatus.slice(2)],
  environment: [...sshEnvironment, ...clientEnvironment],
  files: [...sshFiles, ...clientFiles],
  examples: [['howdah agent rollback ops@db-7.example', 'One server.']],
  run: runRollback,
})

async function runRollback(call: Call<VersionOptions>): Promise<number> {
  return changeVersions(call, rollback, rollBackHost)
}
