/** `howdah publish`: requests a session and waits until it is published. */
import { printJson } from '../context.ts'
import {
  brokerOptions,
  clientEnvironment,
  clientFiles,
  commandOptions,
  jsonOption,
  type WaitingOptions,
  waitingExitStatus,
  waitOptions,
} from '../options.ts'
import {
  expiresOption,
  instanceOptions,
  publishBody,
  type SourceOptions,
  sourceOptions,
} from '../publish-options.ts'
import { awaitPublished } from '../published.ts'
import { TIMES } from '../recovery-target.ts'
import { sendCommand } from '../request.ts'
import { type Call, defineVerb } from '../verb.ts'

interface PublishOptions extends SourceOptions, WaitingOptions {}

export const publish = defineVerb<PublishOptions>({
  name: 'publish',
  summary: 'publish an instance from a backup on a target server',
  description: [
    'Mounts a backup on the target server and starts PostgreSQL on it. Nothing is restored first: data is ' +
      'fetched when it is read, changes go to a write cache on the target, and the backup is never written to. ' +
      'The instance is promoted, writable, and isolated from production, unless options say otherwise.',
    'Waits until the instance accepts queries, with one line per step: updated in place on a terminal, one line ' +
      'per change elsewhere. A session that fails is cleaned up, and what was undone is shown. Ctrl-C stops ' +
      'waiting, not the session. A crash of any component delays the session but does not end it.',
  ],
  options: [
    ...sourceOptions,
    ...instanceOptions,
    expiresOption,
    ...waitOptions('the session continues'),
    ...commandOptions,
    jsonOption(
      'Print the session as one JSON document once it is published or has failed (with --no-wait: {"accepted": true, "session": …, ' +
        '"recoverTo": …}); progress goes to stderr.',
    ),
    ...brokerOptions,
  ],
  sections: [['TIMES', TIMES]],
  exitStatus: waitingExitStatus('the session continues'),
  environment: [...clientEnvironment, ['TZ', 'Time zone of times that are given without one.']],
  files: clientFiles,
  examples: [
    [
      'howdah publish --repository prod --instance main --target local',
      'The latest backup, recovered to the end of the archive.',
    ],
    [
      "howdah publish --repository prod --instance main --target local --recover-to 'time=2026-11-22 07:30:00+01'",
      'The state at 07:30.',
    ],
    [
      'howdah publish --repository prod --instance main --target local --recover-to xid=48211,exclusive --after-recovery pause',
      'Just before a transaction, paused and read-only for inspection.',
    ],
    [
      "howdah publish --repository prod --instance main --target db-7 --listen '*' --hba-file ./hba.conf --setting work_mem=256MB --expires 4h",
      'Reachable from other hosts, with more memory, unpublished after four hours.',
    ],
    [
      'howdah publish --repository prod --instance main --target local --json | jq -r .connection.port',
      'In a script: the port to connect to.',
    ],
  ],
  run: runPublish,
})

async function runPublish({ context, options, deadline, connect }: Call<PublishOptions>): Promise<number> {
  const started = context.now()
  const json = options.json === true
  const remarks = json ? context.stderr : context.stdout
  const body = publishBody(options)
  if (options.recoverTo?.remark !== undefined) context.stderr.line(options.recoverTo.remark)
  await using connection = await connect()
  const { bus } = connection
  const reply = await sendCommand(bus, 'instance.publish', body, {
    deadline,
    usualMs: 120_000,
    options,
    onWaiting: ({ message }) => context.stderr.line(`howdah publish: ${message}; asking again`),
  })
  const { session } = reply
  if (!options.wait) {
    if (json) printJson(context, { ...reply, recoverTo: body.recoverTo ?? { type: 'latest' } })
    else remarks.line(`session ${session} accepted; "howdah watch ${session}" follows it`)
    return 0
  }
  const what = `${options.instance} from ${options.repository} on ${options.target}`
  remarks.line(`Publishing ${remarks.style('bold', what)}, session ${remarks.style('bold', session)}`)
  // Awaited: the connection is closed when this function has returned.
  return await awaitPublished({
    context,
    bus,
    session,
    verb: 'publish',
    json,
    deadline,
    started,
  })
}
