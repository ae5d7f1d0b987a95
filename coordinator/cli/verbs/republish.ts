/** `howdah republish`: publishes the instance of a session again, and waits until it is published. */
import type { CommandBody } from '../../../messages/definitions.ts'
import { printJson } from '../context.ts'
import {
  brokerOptions,
  clientEnvironment,
  clientFiles,
  commandOptions,
  jsonOption,
  parsePort,
  parseRepositoryName,
  sessionArgument,
  type WaitingOptions,
  waitingExitStatus,
  waitOptions,
} from '../options.ts'
import { awaitPublished } from '../published.ts'
import { chosenTarget, type RecoveryOptions, recoveryOptions, TIMES } from '../recovery-target.ts'
import { resolveSession, sendCommand, showSession } from '../request.ts'
import { latestSequence } from '../session-progress.ts'
import { UsageError } from '../usage-error.ts'
import { type Call, defineVerb } from '../verb.ts'

interface RepublishOptions extends WaitingOptions, RecoveryOptions {
  readonly backup?: string
  readonly alongside?: true
  readonly port?: number
  readonly discardChanges?: true
}

export const republish = defineVerb<RepublishOptions>({
  name: 'republish',
  summary: 'publish the instance of a session again, in its latest or another state',
  description: [
    'Publishes the same instance on the same target with the options of the session: same port, same user, same ' +
      'settings. Data that was fetched before is still on the target, so that little is read from the mount ' +
      'server. Waits until the instance accepts queries.',
    'Replaces what is published: the session keeps its id, and connected clients are disconnected. This is ' +
      'refused while there are changes that were not exported, unless --discard-changes is given. With ' +
      '--alongside the published instance stays, and a second session is started on another port.',
  ],
  arguments: [sessionArgument],
  options: [
    ...recoveryOptions('latest'),
    {
      flags: '--backup <L>',
      description: 'Label of the backup to start from.',
      defaultText: 'the newest one that ended before the recovery target',
      parse: parseRepositoryName,
    },
    { flags: '--alongside', description: 'Publish as a second session beside the existing one.' },
    {
      flags: '--port <N>',
      description: 'Port of the second session. Only with --alongside.',
      defaultText: 'a free one from the configuration of the target agent',
      parse: parsePort,
    },
    { flags: '--discard-changes', description: 'Discard changes that were not exported.' },
    ...waitOptions('the session continues'),
    ...commandOptions,
    jsonOption(
      'Print the session as one JSON document once it is published or has failed (with --no-wait: {"accepted": true, "session": …}); ' +
        'progress goes to stderr.',
    ),
    ...brokerOptions,
  ],
  sections: [['TIMES', TIMES]],
  exitStatus: waitingExitStatus('the session continues'),
  environment: [...clientEnvironment, ['TZ', 'Time zone of times that are given without one.']],
  files: clientFiles,
  examples: [
    ['howdah republish main-x7', 'Replace what is published by the latest state.'],
    [
      "howdah republish main-x7 --recover-to 'time=2026-11-22 07:00:00+01' --alongside",
      'The state at 07:00 beside the present one, to compare both.',
    ],
    ['howdah republish main-x7 --discard-changes', 'Start again from the backup and drop all changes.'],
  ],
  run: runRepublish,
})

async function runRepublish({
  context,
  options,
  argument,
  deadline,
  connect,
}: Call<RepublishOptions>): Promise<number> {
  const started = context.now()
  const json = options.json === true
  const remarks = json ? context.stderr : context.stdout
  const { backup, port, alongside = false, discardChanges } = options
  const recoverTo = chosenTarget(options)
  if (port !== undefined && !alongside) {
    throw new UsageError('--port goes with --alongside: without it the instance keeps its port')
  }
  if (discardChanges === true && alongside) {
    throw new UsageError('--discard-changes does not go with --alongside, which keeps the changes')
  }
  if (options.recoverTo?.remark !== undefined) context.stderr.line(options.recoverTo.remark)
  await using connection = await connect()
  const { bus } = connection
  const of = await resolveSession(bus, argument, deadline)
  const before = await showSession(bus, of, deadline)
  const body: CommandBody<'session.republish'> = {
    session: of,
    ...(recoverTo !== undefined && { recoverTo }),
    ...(backup !== undefined && { backup }),
    ...(alongside && { alongside }),
    ...(port !== undefined && { port }),
    ...(discardChanges === true && { discardChanges }),
  }
  const reply = await sendCommand(bus, 'session.republish', body, {
    deadline,
    options,
  })
  const { session } = reply
  if (!options.wait) {
    if (json) printJson(context, reply)
    else remarks.line(`session ${session} accepted; "howdah watch ${session}" follows it`)
    return 0
  }
  const what = `${before.instance} from ${before.repository} on ${before.target}`
  const how = alongside ? `alongside ${of}, session ${session}` : `session ${session}`
  remarks.line(`Publishing ${remarks.style('bold', what)} again, ${how}`)
  // Awaited: the connection is closed when this function has returned.
  return await awaitPublished({
    context,
    bus,
    session,
    verb: 'republish',
    json,
    deadline,
    started,
    ...(session === of && { since: reply.after ?? latestSequence(before) }),
  })
}
