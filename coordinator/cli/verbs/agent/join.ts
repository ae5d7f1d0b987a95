/** `howdah agent join`: makes this host an agent of the fleet, by a token of `howdah agent invite`. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import type { RepositoryConfig } from '../../../../config/formats.ts'
import { createLogger } from '../../../../config/logger.ts'
import { HowdahError } from '../../../../messages/errors.ts'
import { authorityFingerprint } from '../../../fleet/authority/fingerprint.ts'
import { identityFiles } from '../../../fleet/host/host-paths.ts'
import { decodeInvitation, type Invitation } from '../../../fleet/host/invitation-token.ts'
import { joinFleet } from '../../../fleet/host/join.ts'
import { type HostReport, note } from '../../../fleet/host/report.ts'
import { setUpHost } from '../../../fleet/host/setup.ts'
import { agentOwner } from '../../../fleet/host/system-user.ts'
import type { Context } from '../../context.ts'
import { parseName } from '../../options.ts'
import { parseRepository } from '../../up/repository-flags.ts'
import { InvalidValue, UsageError } from '../../usage-error.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { hostExitStatus, openHost, printReport, reportOption, startAgent } from './host-action.ts'

interface Options {
  readonly tokenFile?: string
  readonly name?: string
  readonly fingerprint?: string
  readonly advertise?: string
  readonly repository: readonly RepositoryConfig[]
  readonly start: boolean
  readonly json?: true
}

const TOKEN_VARIABLE = 'HOWDAH_JOIN_TOKEN'

export const join = defineVerb<Options>({
  name: 'agent join',
  summary: 'make this host an agent of the fleet, by a token',
  description: [
    'Takes the token of "howdah agent invite" from standard input, --token-file or HOWDAH_JOIN_TOKEN; never as an ' +
      'argument, which everybody on this machine can read. Then it does what "howdah agent setup", "request", "accept" ' +
      'and "start" do: the private key is made here and stays here, the certificate comes from the authority that the ' +
      'token names, over the broker, and the agent is started.',
    'Safe to repeat: a host that has joined is left as it is. A token that was used before the certificate arrived works ' +
      'again on the same host, until it expires.',
  ],
  options: [
    {
      flags: '--token-file <FILE>',
      description: 'File with the token; remove it afterwards.',
      defaultText: `${TOKEN_VARIABLE}, then standard input`,
      parse: (file) => path.resolve(file),
    },
    {
      flags: '--name <NAME>',
      description: 'Refuse a token for an agent of another name.',
      parse: parseName,
    },
    {
      flags: '--fingerprint <SHA256:…>',
      description: "Refuse a token of another authority than the fleet's.",
      parse: parseFingerprint,
    },
    {
      flags: '--advertise <ADDRESS>',
      description: 'Of a mount agent: host name or address by which target servers reach it.',
      defaultText: 'the first --address of the invitation',
    },
    {
      flags: '--repository <NAME=FORMAT:PATH>',
      description: 'Of a mount agent: a repository to serve, as for "howdah up".',
      repeatable: true,
      parse: parseRepository,
    },
    { flags: '--no-start', description: 'Do not start the agent.' },
    reportOption,
  ],
  exitStatus: hostExitStatus,
  environment: [[TOKEN_VARIABLE, 'The token.']],
  files: [
    ['/etc/howdah/target-agent.json', 'The configuration; mount-agent.json of a mount agent.'],
    ['/etc/howdah/tls', "The private key, the certificate, and that of the fleet's authority."],
  ],
  examples: [
    ['howdah agent join --name db-7 < /run/howdah-token', 'As cloud-init does it.'],
    [
      'howdah agent join --token-file /run/howdah-token --repository prod=pgbackrest:/var/lib/pgbackrest',
      'A mount server.',
    ],
  ],
  run: runJoin,
})

async function runJoin({ context, options, deadline }: Call<Options>): Promise<number> {
  const invitation = decodeInvitation(await readToken(context, options.tokenFile))
  requireExpected(invitation, options)
  const { kind, name, brokers, addresses } = invitation
  const { advertise = addresses[0], repository: repositories } = options
  const host = openHost()
  const report = await setUpHost(host.paths, host.supervisor, {
    ...{ kind, name, brokers, repositories },
    ...(kind === 'mount' && advertise !== undefined && { advertise }),
  })
  const joined = await joinFleet(invitation, {
    files: identityFiles(host.paths, kind),
    owner: await agentOwner(kind),
    signal: deadline.signal,
    logger: createLogger('join', context.env.HOWDAH_LOG_LEVEL ?? 'silent'),
  })
  merge(report, joined)
  if (options.start) note(report, `${kind} agent: started`, await startAgent(host.supervisor, kind))
  printReport(context, report, options.json)
  return 0
}

async function readToken({ env }: Context, file: string | undefined): Promise<string> {
  if (file !== undefined) {
    return readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
      throw new HowdahError('configuration', `the token cannot be read from ${file}: ${cause.code}`, {
        cause,
      })
    })
  }
  const given = env[TOKEN_VARIABLE]
  // What is started from here inherits the environment.
  delete env[TOKEN_VARIABLE]
  return given ? given : text(process.stdin)
}

/** @throws UsageError | HowdahError `unauthorized` */
function requireExpected(invitation: Invitation, options: Options): void {
  const { kind, name, ca } = invitation
  if (kind === 'target' && (options.advertise !== undefined || options.repository.length > 0))
    throw new UsageError(
      '--advertise and --repository are for mount agents, and the token is for a target',
      join,
    )
  if (options.name !== undefined && options.name !== name) {
    throw new HowdahError(
      'unauthorized',
      `the token is for the ${kind} agent "${name}", and not for "${options.name}"; each host needs one of its own`,
      { field: 'name' },
    )
  }
  const fingerprint = authorityFingerprint(ca)
  if (options.fingerprint === undefined || options.fingerprint === fingerprint) return
  throw new HowdahError(
    'unauthorized',
    `the token is of another authority: its fingerprint is ${fingerprint}, and ${options.fingerprint} was expected`,
    { field: 'fingerprint' },
  )
}

function parseFingerprint(given: string): string {
  if (!/^SHA256:[A-Za-z0-9+/]{43}$/.test(given)) throw new InvalidValue('SHA256: and 43 characters')
  return given
}

function merge(report: HostReport, more: HostReport): void {
  report.changed.push(...more.changed)
  report.kept.push(...more.kept)
}
