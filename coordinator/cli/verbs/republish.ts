/** `howdah republish`: publishes the instance of a session again, and waits until it is published. */
import type { CommandBody } from '../../../messages/definitions.ts'
import { printJson } from '../context.ts'
import {
  brokerOptions,
  clientEnvironment,
  clientFiles,
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
import { ask, resolveSession, showSession } from '../request.ts'
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
  summary: 'publish the instance of a session again, the latest state or any other',
  description: [
    'Publishes the same instance on the same target with the settings of the session: same port, same user, same ' +
      'options. What was fetched before is on the target already, so that little has to be read from the mount ' +
      'server again. Waits until the instance answers.',
    'Takes the place of what is published: the session keeps its id, and whoever is connected is disconnected. That ' +
      'is refused while changes were made that were not exported, unless --discard-changes says that they may go. ' +
      'With --alongside what is published stays, and another session gets another port.',
  ],
  arguments: [sessionArgument],
  options: [
    ...recoveryOptions('latest'),
    {
      flags: '--backup <L>',
      description: 'Label of the backup to begin with.',
      defaultText: 'the newest one that ended before the recovery target',
      parse: parseRepositoryName,
    },
    { flags: '--alongside', description: 'As another session, beside the one that is published.' },
    {
      flags: '--port <N>',
      description: 'Port of the other session. For --alongside.',
      defaultText: 'a free one from the configuration of the target agent',
      parse: parsePort,
    },
    { flags: '--discard-changes', description: 'Throw away changes that were not exported.' },
    ...waitOptions('the session goes on'),
    jsonOption(
      'Print the session as one JSON document when it has settled (with --no-wait: {"accepted": true, "session": …}); ' +
        'progress goes to stderr.',
    ),
    ...brokerOptions,
  ],
  sections: [['TIMES', TIMES]],
  exitStatus: waitingExitStatus('the session goes on'),
  environment: [...clientEnvironment, ['TZ', 'Time zone of times that name none.']],
  files: clientFiles,
  examples: [
    ['howdah republish main-x7', 'The latest state, in the place of the one that is published.'],
    [
      "howdah republish main-x7 --recover-to 'time=2026-11-22 07:00:00+01' --alongside",
      'As it was half an hour before, to compare both.',
    ],
    ['howdah republish main-x7 --discard-changes', 'Begin anew, whatever was changed.'],
  ],
  run: runRepublish,
})

async function runRepublish({ context, options, argument }: Call<RepublishOptions>): Promise<number> {
  const started = context.now()
  const json = options.json === true
  const remarks = json ? context.stderr : context.stdout
  const { backup, port, alongside = false, discardChanges } = options
  const recoverTo = chosenTarget(options)
  if (port !== undefined && !alongside) {
    throw new UsageError('--port goes with --alongside: in its place the instance keeps its port')
  }
  if (discardChanges === true && alongside) {
    throw new UsageError(
      '--discard-changes makes no sense with --alongside, which leaves everything as it is',
    )
  }
  if (options.recoverTo?.remark !== undefined) context.stderr.line(options.recoverTo.remark)
  await using connection = await context.connect(options)
  const { bus } = connection
  const of = await resolveSession(bus, argument, context.interrupted)
  const before = await showSession(bus, of, context.interrupted)
  const body: CommandBody<'session.republish'> = {
    session: of,
    ...(recoverTo !== undefined && { recoverTo }),
    ...(backup !== undefined && { backup }),
    ...(alongside && { alongside }),
    ...(port !== undefined && { port }),
    ...(discardChanges === true && { discardChanges }),
  }
  const reply = await ask(bus, 'session.republish', body, { signal: context.interrupted })
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
    timeout: options.timeout,
    started,
    ...(session === of && { since: latestSequence(before) }),
  })
}
