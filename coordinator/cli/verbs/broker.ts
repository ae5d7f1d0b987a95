/** `howdah broker setup`: users with the least permissions, policies and queues on a RabbitMQ. */
import path from 'node:path'
import { MANAGEMENT_USER } from '../../../messages/permissions.ts'
import type { AgentAddress } from '../../../messages/topology.ts'
import { brokerDefinitions, type SetupRequest, usersOf } from '../../fleet/broker-users/definitions.ts'
import { importDefinitions, type Management, managementAt } from '../../fleet/broker-users/management.ts'
import { keepPassword, keepPasswords, passwordFile } from '../../fleet/broker-users/passwords.ts'
import { printJson } from '../context.ts'
import { jsonOption, parseName } from '../options.ts'
import { InvalidValue, UsageError } from '../usage-error.ts'
import { type Call, defineVerb } from '../verb.ts'

interface Options {
  readonly passwords?: string
  readonly managementPassword?: string
  readonly vhost?: string
  readonly agent: readonly AgentAddress[]
  readonly client: readonly string[]
  readonly operator: readonly string[]
  readonly print?: true
  readonly apply?: true
  readonly management?: URL
  readonly json?: true
}

const DEFAULT_VHOST = 'howdah'

export const broker = defineVerb<Options>({
  name: 'broker',
  summary: 'set up users, permissions, policies and queues on a RabbitMQ',
  description: [
    'ACTION is "setup". It gives the coordinator, each agent and each client a RabbitMQ user of its own with the ' +
      'least permissions: an agent reads its own queue and reports under its own name, a client sends commands and ' +
      'sees the events of sessions, and the coordinator alone declares queues. It also sets the limits of the ' +
      'queues as policies, which can be changed at any time, and declares the queues.',
    'Without --passwords a user has none, and logs in by a certificate that names it ("howdah authority issue"). With ' +
      'it, the password of each user is made once, in a file of its own that is never printed; copy it to the machine ' +
      'of its user. Safe to repeat, with more agents and clients each time: what exists is kept.',
  ],
  arguments: [{ name: 'ACTION', required: true, description: 'setup', choices: ['setup'] }],
  options: [
    {
      flags: '--passwords <DIR>',
      description:
        'Directory of the password files; created, readable by its owner only, if it does not exist. Default: nobody has a password.',
      parse: (text) => path.resolve(text),
    },
    {
      flags: '--agent <KIND:NAME>',
      description: 'A mount agent or a target agent, like mount:backup-1 or target:db-7.',
      repeatable: true,
      parse: parseAgent,
    },
    {
      flags: '--client <NAME>',
      description: 'A client: a person who uses the command line, or backup software.',
      repeatable: true,
      parse: parseName,
    },
    {
      flags: '--operator <NAME>',
      description: 'A client that may also enrol agents and revoke them.',
      repeatable: true,
      parse: parseName,
    },
    {
      flags: '--management-password <FILE>',
      description:
        'Makes the user howdah-management, with the tag administrator and the password in FILE, which is made if there ' +
        'is none: with it the coordinator enrols agents (broker.managementPasswordFile).',
      parse: (text) => path.resolve(text),
    },
    {
      flags: '--vhost <NAME>',
      description: 'Virtual host; created if it does not exist.',
      defaultText: DEFAULT_VHOST,
      parse: parseVhost,
    },
    {
      flags: '--print',
      description:
        'Print the definitions, with hashed passwords, for "rabbitmqctl import_definitions FILE". The default.',
    },
    { flags: '--apply', description: 'Import the definitions through the management API.' },
    {
      flags: '--management <URL>',
      description:
        'Management API, for --apply: http://user:password@host:15672 or https://…; the user needs the tag administrator.',
      defaultText: 'HOWDAH_MANAGEMENT_URL',
      secret: true,
      parse: parseManagement,
    },
    jsonOption('With --apply, print {"vhost", "users": [{"user", "passwordFile"?}, …]}.'),
  ],
  exitStatus: [
    ['0', 'Done.'],
    ['1', 'A file or the broker refused; the message says why.'],
    ['2', 'Wrong usage; nothing was done.'],
  ],
  environment: [
    ['HOWDAH_MANAGEMENT_URL', 'Management API, as --management, which other users of this machine can see.'],
    [
      'NODE_EXTRA_CA_CERTS',
      'File with further certificate authorities for an https:// management API (PEM).',
    ],
  ],
  files: [
    ['DIR/USER.password', 'Password of one user. A file that exists is kept.'],
    ['FILE', 'Password of howdah-management. A file that exists is kept.'],
  ],
  examples: [
    [
      'howdah broker setup --passwords /etc/howdah/passwords --agent mount:backup-1 --agent target:db-7 --client ops > definitions.json',
      'To be imported with "rabbitmqctl import_definitions definitions.json".',
    ],
    [
      'howdah broker setup --operator alice --management-password /etc/howdah/management.password > definitions.json',
      'For a fleet with certificates, into which agents are enrolled later.',
    ],
    [
      'howdah broker setup --passwords /etc/howdah/passwords --agent target:db-8 --apply',
      'One more target, through HOWDAH_MANAGEMENT_URL.',
    ],
  ],
  run: runBroker,
})

async function runBroker({ context, options, argument }: Call<Options>): Promise<number> {
  if (argument !== 'setup')
    throw new UsageError(`there is no "broker ${argument}"; there is "broker setup"`, broker)
  const { agent: agents, client: clients, operator: operators, vhost = DEFAULT_VHOST } = options
  if (options.print && options.apply) throw new UsageError('--print and --apply exclude each other', broker)
  const management = options.apply ? managementAccess(options, context.env) : undefined
  const request: SetupRequest = { vhost, agents, clients, operators }
  const users = usersOf(request).map(({ user }) => user)
  const { passwords: directory, managementPassword } = options
  const definitions = brokerDefinitions(request, {
    users: directory === undefined ? new Map() : await keepPasswords(directory, users),
    management: managementPassword === undefined ? undefined : await keepPassword(managementPassword),
  })
  if (management === undefined) {
    context.stdout.line(JSON.stringify(definitions, undefined, 2))
    return 0
  }
  await importDefinitions(management, definitions)
  const made = [
    ...users.map((user) =>
      directory === undefined ? { user } : { user, passwordFile: passwordFile(directory, user) },
    ),
    ...(managementPassword === undefined
      ? []
      : [{ user: MANAGEMENT_USER, passwordFile: managementPassword }]),
  ]
  if (options.json) printJson(context, { vhost, users: made })
  else for (const one of made) context.stdout.line(Object.values(one).join('  '))
  return 0
}

function managementAccess({ management }: Options, env: NodeJS.ProcessEnv): Management {
  if (management !== undefined) return managementAt(management)
  const given = env.HOWDAH_MANAGEMENT_URL
  if (given === undefined || given === '') throw new UsageError('--apply needs --management URL', broker)
  try {
    return managementAt(parseManagement(given))
  } catch (error) {
    if (error instanceof InvalidValue)
      throw new UsageError(`HOWDAH_MANAGEMENT_URL must be ${error.message}`, broker)
    throw error
  }
}

function parseAgent(text: string): AgentAddress {
  const [kind, name = ''] = text.split(':', 2)
  if (kind !== 'mount' && kind !== 'target') throw new InvalidValue('like mount:backup-1 or target:db-7')
  return { kind, name: parseName(name) }
}

function parseVhost(text: string): string {
  if (text === '' || text.length > 255) throw new InvalidValue('the name of a virtual host')
  return text
}

function parseManagement(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url && ['http:', 'https:'].includes(url.protocol) && url.username !== '') return url
  throw new InvalidValue('like http://user:password@host:15672')
}
