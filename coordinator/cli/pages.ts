/** What has a manual page besides the verbs: the help, and the roles, each of which has a main of its own. */
import type { ConfigKey } from '../../config/describe.ts'
import type { VerbDescription } from './verb-description.ts'
import { pagesOf } from './verb-group.ts'
import { loadVerbs } from './verbs.ts'

export const HELP: VerbDescription = {
  name: 'help',
  summary: 'show the manual page of a verb, or this overview',
  description: ['Shows the manual page of VERB. Without VERB, shows an overview of all verbs.'],
  arguments: [
    { name: 'VERB', required: false, description: 'A verb of howdah.' },
    { name: 'ACTION', required: false, description: 'Of a verb with actions: one of them.' },
  ],
  options: [],
  exitStatus: [
    ['0', 'Done.'],
    ['2', 'There is no such verb.'],
  ],
  environment: [],
  files: [],
  examples: [['howdah help publish', 'The manual page of "howdah publish".']],
}

export const ROLES = [
  { name: 'coordinator', summary: 'run the coordinator: takes commands, plans sessions' },
  { name: 'mount-agent', summary: 'run a mount agent: serves backup repositories to target servers' },
  { name: 'target-agent', summary: 'run a target agent: mounts backups and runs published instances' },
] as const

type RoleName = (typeof ROLES)[number]['name']

/** Every page: of the verbs, of the roles, and of the help. */
export async function allPages(): Promise<VerbDescription[]> {
  const roles = await Promise.all(ROLES.map(({ name, summary }) => rolePage(name, summary)))
  const verbs = await Promise.all((await loadVerbs()).map(pagesOf))
  return [...verbs.flat(), ...roles, HELP]
}

async function rolePage(name: RoleName, summary: string): Promise<VerbDescription> {
  // Loaded on demand, so that the other verbs start fast.
  const [{ describeKeys }, schemas] = await Promise.all([
    import('../../config/describe.ts'),
    import('../../config/schema.ts'),
  ])
  const describe: Record<RoleName, () => ConfigKey[]> = {
    coordinator: () => describeKeys(schemas.coordinatorSchema),
    'mount-agent': () => describeKeys(schemas.mountAgentSchema),
    'target-agent': () => describeKeys(schemas.targetAgentSchema),
  }
  const keys = describe[name]()
  return {
    name,
    summary,
    description: [
      'Runs until SIGTERM or SIGINT, in the foreground, and then stops in order; published instances stay published.',
      'Its configuration comes from a file, then the environment, then flags; the last one wins. In the file, which is ' +
        'JSON, a dot is a level: log.level is {"log": {"level": …}}.',
    ],
    options: [
      { flags: '--config <FILE>', description: 'Configuration file; also HOWDAH_CONFIG.' },
      {
        flags: '--json',
        description: 'Print one JSON line on stdout once ready, or {"error": …}. Logs go to stderr.',
      },
      {
        flags: '--check-configuration',
        description: 'Say what is wrong with the configuration, and end; status 2 if anything is.',
      },
      ...keys.flatMap(({ flag, doc, shown }) =>
        flag === undefined
          ? []
          : [{ flags: `--${flag} <VALUE>`, description: `${doc}.`, defaultText: shown }],
      ),
    ],
    sections: [['CONFIGURATION', keys.map(keyEntry)]],
    exitStatus: [
      ['0', 'Stopped.'],
      ['1', 'Failed; the last line of the log says why.'],
      ['2', 'Wrong usage or configuration.'],
    ],
    environment: keys.flatMap(({ env, key }) =>
      env === undefined ? [] : [[env, `The key ${key}.`] as const],
    ),
    files: [],
    examples: [[`howdah ${name} --config /etc/howdah/${name}.json`, 'As a service runs it.']],
  }
}

function keyEntry({ key, doc, shown, env }: ConfigKey): readonly [string, string] {
  return [key, `${doc}. Default: ${shown}.${env === undefined ? '' : ` Variable: ${env}.`}`]
}
