/** A target agent in a process of its own, to be killed. Arguments: broker URL, state directory. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { runAgent } from '../../agents/runtime/agent.ts'
import { openJournal } from '../../agents/runtime/journal.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import { MOUNTED } from './commands.ts'

const [url = '', directory = ''] = process.argv.slice(2)
const logger = pino({ level: 'silent' })
const bus = await connectBus({ url, appId: 'crashing-agent', role: 'agent', logger, waitMs: 30_000 })
await runAgent({
  address: { kind: 'target', name: 'crashing' },
  bus,
  journal: openJournal(join(directory, 'journal.sqlite')),
  queries: {},
  steps: {
    mount: {
      async run() {
        // Each run leaves a mark; it ends when the test says so.
        const runs = readdirSync(directory).filter((name) => name.startsWith('run-')).length
        writeFileSync(join(directory, `run-${runs + 1}`), '')
        while (!existsSync(join(directory, 'go'))) await sleep(5)
        return MOUNTED
      },
      async undo() {
        return { undone: [] }
      },
    },
  },
  describe: () => ({}),
  heartbeatMs: 1000,
  logger,
})
