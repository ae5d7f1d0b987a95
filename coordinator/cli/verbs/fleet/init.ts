/** `howdah fleet init`: makes this machine the centre of a fleet. */
import { initFleet } from '../../../fleet/init/init-fleet.ts'
import { jsonOption, parseName } from '../../options.ts'
import { InvalidValue, UsageError } from '../../usage-error.ts'
import { type Call, defineVerb } from '../../verb.ts'
import { hostExitStatus, openHost, printReport } from '../agent/host-action.ts'

interface Options {
  readonly address: readonly string[]
  readonly operator?: string
  readonly json?: true
}

const DEFAULT_OPERATOR = 'root'

export const init = defineVerb<Options>({
  name: 'fleet init',
  summary: 'make broker, authority and coordinator on this machine',
  description: [
    'Makes the centre of a fleet on a machine that has the RabbitMQ of its distribution and the Debian package of ' +
      'Howdah: the authority that signs all certificates, the identities of broker, coordinator and operator, TLS and ' +
      'logins by certificate at the broker, its users, policies and queues, and the configuration of the coordinator ' +
      'and of the command line. Nobody in the fleet has a password but the coordinator for the management API, which ' +
      'listens on the loopback interface only.',
    'Starts nothing: restart RabbitMQ and start the coordinator afterwards, as the last lines say. Safe to repeat: ' +
      'what exists is kept, and certificates that expire within 30 days are issued again.',
  ],
  options: [
    {
      flags: '--address <ADDRESS>',
      description:
        'Host name or IP address by which agents reach this machine. The first one is in the URL of the broker.',
      repeatable: true,
      required: true,
      parse: parseAddress,
    },
    {
      flags: '--operator <NAME>',
      description: 'Operator whose certificate the command line uses on this machine, as root.',
      defaultText: DEFAULT_OPERATOR,
      parse: parseName,
    },
    jsonOption('Print {"changed": [WHAT, …], "kept": [WHAT, …]}.'),
  ],
  exitStatus: hostExitStatus,
  environment: [],
  files: [
    ['/etc/howdah/authority', 'The authority and what it issued. Keep a copy of ca.key in a safe place.'],
    ['/etc/howdah/coordinator.json', 'Configuration of the coordinator, where there is none.'],
    ['/etc/howdah/client.json', 'Configuration of the command line on this machine, where there is none.'],
    ['/etc/rabbitmq/conf.d/50-howdah.conf', 'What RabbitMQ needs; its files are in /etc/rabbitmq/howdah.'],
  ],
  examples: [['howdah fleet init --address broker-1.example', 'Before the first agent is installed.']],
  run: runInit,
})

async function runInit({ context, options }: Call<Options>): Promise<number> {
  const [first, ...others] = options.address
  if (first === undefined) throw new UsageError('--address is missing', init)
  const { paths } = openHost()
  const report = await initFleet(paths, {
    addresses: [first, ...others],
    operator: options.operator ?? DEFAULT_OPERATOR,
    warn: (text) => context.stderr.line(text),
  })
  printReport(context, report, options.json)
  if (options.json !== true) {
    context.stdout.line('Now:')
    if (report.changed.some((what) => what.startsWith(paths.broker)))
      context.stdout.line('  systemctl restart rabbitmq-server')
    context.stdout.line('  systemctl enable --now howdah-coordinator')
  }
  return 0
}

function parseAddress(text: string): string {
  if (/^[A-Za-z0-9_:][A-Za-z0-9._:-]*$/.test(text)) return text
  throw new InvalidValue('a host name or an IP address')
}
