/** `howdah agent stop`: stop this host's agents. */
import { type HostReport, note } from '../../../fleet/host/report.ts'
import { type Call, defineVerb } from '../../verb.ts'
import {
  type AnyKindOptions,
  anyKindOption,
  chosenKinds,
  hostExitStatus,
  openHost,
  printReport,
  reportOption,
} from './host-action.ts'

export const stop = defineVerb<AnyKindOptions>({
  name: 'agent stop',
  summary: "stop this host's agents",
  description: [
    'Stops the agents in order. Published instances stay published, and the agents find them again when they start.',
  ],
  options: [anyKindOption, reportOption],
  exitStatus: hostExitStatus,
  environment: [],
  files: [],
  examples: [['howdah agent stop --kind target', 'The target agent.']],
  run: runStop,
})

async function runStop({ context, options: { kind, json } }: Call<AnyKindOptions>): Promise<number> {
  const host = openHost()
  const report: HostReport = { changed: [], kept: [] }
  for (const one of chosenKinds(host, kind)) {
    const isRunning = (await host.supervisor.process(one)) !== undefined
    await host.supervisor.stop(one)
    note(report, `${one} agent: stopped`, isRunning)
  }
  printReport(context, report, json)
  return 0
}
