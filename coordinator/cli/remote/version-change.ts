/** What `howdah agent upgrade` and `rollback` share: hosts in waves, each changed and looked at, and a report of all. */
import { errorBody } from '../../../messages/errors.ts'
import type { VersionChange } from '../../fleet/install/change-version.ts'
import { checkHost } from '../../fleet/install/host-check.ts'
import { type BatchSize, inWaves, parseBatchSize, wavesOf } from '../../fleet/install/waves.ts'
import { printJson, printJsonFailure } from '../context.ts'
import { count } from '../format.ts'
import type { ClientOptions } from '../options.ts'
import { printable } from '../terminal.ts'
import { InvalidValue } from '../usage-error.ts'
import type { Call } from '../verb.ts'
import type { Entry, OptionDescription, VerbDescription } from '../verb-description.ts'
import { type ChosenHost, chosenHosts } from './chosen-hosts.ts'
import { fleetOf } from './fleet.ts'
import { hostAccess, rootOf, shownHost } from './host.ts'
import type { SshOptions } from './options.ts'

export interface VersionOptions extends SshOptions, ClientOptions {
  readonly all?: true
  readonly batch?: BatchSize
}

const HEALTHY_MS = 120_000

export const batchOption: OptionDescription = {
  flags: '--batch <SIZE>',
  description: 'Servers at the same time: a number, or a share of them as 10%, which is at least one.',
  defaultText: '1',
  parse: (text) => {
    const size = parseBatchSize(text)
    if (size === undefined) throw new InvalidValue('a number of servers like 5, or a share like 10%')
    return size
  },
}

export const wavesExitStatus: readonly Entry[] = [
  ['0', 'Done on all servers.'],
  ['1', 'A server is not well; its wave was the last one.'],
]

/** @param change what is done on one host. @returns the exit status */
export async function changeVersions(
  { context, options, argument, further, deadline, connect }: Call<VersionOptions>,
  verb: VerbDescription,
  change: (host: VersionChange) => Promise<boolean>,
): Promise<number> {
  const words = argument === '' ? [] : [argument, ...further]
  const hosts = chosenHosts(context, words, options, verb)
  const remarks = options.json === true ? context.stderr : context.stdout
  await using connection = await connect()
  const fleet = fleetOf(connection.bus, deadline)
  const signal = deadline.signal
  const changed: string[] = []

  async function changeHost({ address, jumps }: ChosenHost): Promise<void> {
    const name = shownHost(address)
    const jumping = { ...options, ...(jumps !== undefined && options.J === undefined && { J: jumps }) }
    await using host = await access.open(address, jumping)
    const { facts } = await checkHost({
      ...{ connection: host.connection, root: host.root, rootProblem: host.rootProblem, kind: undefined },
      ...{ reach: [], neededBytes: 0, now: context.now, signal },
    })
    let last = ''
    const progress = (text: string): void => {
      if (text !== last) remarks.line(`${name}: ${text}`)
      last = text
    }
    const isChanged = await change({
      ...{ host: name, root: rootOf(host), facts, fleet, signal, progress },
      healthyMs: HEALTHY_MS,
    })
    if (isChanged) changed.push(name)
    remarks.line(
      `${remarks.style('green', remarks.marks.done)} ${name}${isChanged ? '' : ': nothing was to be done'}`,
    )
  }

  const access = hostAccess(context, signal)
  const waves = wavesOf(hosts, options.batch ?? { hosts: 1 })
  const outcome = await inWaves(waves, changeHost, (wave, number) => {
    if (waves.length > 1) remarks.line(`Wave ${number} of ${waves.length}: ${count(wave.length, 'server')}`)
  })
  signal.throwIfAborted()
  const shown = (chosen: readonly ChosenHost[]): string[] => chosen.map(({ address }) => shownHost(address))
  const failed = outcome.failed.map(({ host, error }) => ({
    host: shownHost(host.address),
    error: errorBody(error),
  }))
  for (const { host, error } of failed)
    remarks.line(`${remarks.style('red', remarks.marks.failed)} ${host}: ${printable(error.message)}`)
  const document = { done: shown(outcome.done), changed, failed, untouched: shown(outcome.untouched) }
  const [first] = failed
  if (first === undefined) {
    if (options.json === true) printJson(context, document)
    return 0
  }
  const message = `${first.host}: ${first.error.message}`
  if (options.json === true) printJsonFailure(context, { ...first.error, message }, document)
  else
    remarks.line(
      `${count(outcome.done.length, 'server')} done, ${count(failed.length, 'server')} not well, ${count(outcome.untouched.length, 'server')} not touched.`,
    )
  return 1
}
