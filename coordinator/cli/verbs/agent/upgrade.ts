/** `howdah agent upgrade`: another release on servers that have agents, in waves. */
import { upgradeHost } from '../../../fleet/install/change-version.ts'
import { askingOptions, clientEnvironment, clientExitStatus, clientFiles, jsonOption } from '../../options.ts'
import { bundleOption, findBundle } from '../../remote/bundle.ts'
import { allOption, hostsArgument } from '../../remote/chosen-hosts.ts'
import { SSH_DESCRIPTION, sshEnvironment, sshFiles, sshOptions } from '../../remote/options.ts'
import {
  batchOption,
  changeVersions,
  type VersionOptions,
  wavesExitStatus,
} from '../../remote/version-change.ts'
import { type Call, defineVerb } from '../../verb.ts'

interface Options extends VersionOptions {
  readonly bundle?: string
}

export const upgrade = defineVerb<Options>({
  name: 'agent upgrade',
  summary: 'upgrade the agents of servers over SSH, in waves',
  description: [
    'Uploads the bundle to each server, makes it the current version and restarts the agents there; published instances ' +
      'stay up. A server is well when its agents are online in the new version within two minutes, and no session that ' +
      'was published is disrupted. The servers of a wave are upgraded at the same time; after a wave in which one is not ' +
      'well no other begins. "howdah agent rollback" is the way back.',
    'Safe to repeat: servers that have the version are left as they are.',
    SSH_DESCRIPTION,
  ],
  arguments: [hostsArgument],
  options: [
    allOption,
    batchOption,
    bundleOption,
    ...sshOptions,
    jsonOption(
      'Print {"done": […], "changed": […], "failed": [{"host", "error"}, …], "untouched": […]} as one JSON document; progress goes to stderr.',
    ),
    ...askingOptions('none'),
  ],
  exitStatus: [...wavesExitStatus, ...clientExitStatus.slice(2)],
  environment: [...sshEnvironment, ...clientEnvironment],
  files: [...sshFiles, ...clientFiles],
  examples: [
    ['howdah agent upgrade ops@db-7.example', 'One server.'],
    ['howdah agent upgrade --all --batch 10%', 'All servers, a tenth of them at a time.'],
  ],
  run: runUpgrade,
})

async function runUpgrade(call: Call<Options>): Promise<number> {
  const bundle = await findBundle(call.options.bundle)
  return changeVersions(call, upgrade, (host) => upgradeHost(host, bundle))
}
