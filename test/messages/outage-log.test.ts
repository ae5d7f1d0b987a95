import { once } from 'node:events'
import { createServer } from 'node:net'
import { Writable } from 'node:stream'
import { expect } from 'chai'
import { pino } from 'pino'
import { openConnection } from '../../messages/connection.ts'
import { HowdahError } from '../../messages/errors.ts'
import { createOutageLog } from '../../messages/outage-log.ts'
import { poll } from '../support/poll.ts'
import { failure } from './failure.ts'

interface Line {
  readonly level: number
  readonly msg: string
  readonly code?: string
  readonly reason?: string
  readonly failures?: number
  readonly seconds?: number
  readonly err?: { readonly stack: string }
}

const [DEBUG, INFO, WARN] = [20, 30, 40]

function capture() {
  const lines: Line[] = []
  const destination = new Writable({
    write(chunk, _, done) {
      lines.push(JSON.parse(String(chunk)))
      done()
    },
  })
  return { lines, logger: pino({ level: 'debug' }, destination) }
}

describe('the log of an outage', () => {
  it('has its reason once, and its end with how long it took', () => {
    const { lines, logger } = capture()
    let time = 0
    const outage = createOutageLog({ logger, failing: 'cannot', again: 'can again', now: () => time })
    outage.works()
    for (; time < 604_800_000; time += 60_000)
      outage.failed(new HowdahError('broker_unavailable', 'connection refused'), { purpose: 'publish' })
    outage.works()
    outage.works()
    const seen = lines.filter(({ level }) => level > DEBUG)
    expect(seen).to.have.length(2)
    expect(seen[0]).to.include({
      ...{ level: WARN, msg: 'cannot', code: 'broker_unavailable', reason: 'connection refused' },
      ...{ purpose: 'publish', failures: 1 },
    })
    expect(seen[1]).to.include({ level: INFO, msg: 'can again', failures: 10_080, seconds: 604_800 })
    expect(lines.at(-2)).to.include({ level: DEBUG, failures: 10_080 })
    expect(JSON.stringify(lines)).to.not.include('outage-log.test.ts')
  })

  it('has its end when every attempt succeeded after it had begun', () => {
    const { lines, logger } = capture()
    const outage = createOutageLog({ logger, failing: 'cannot', again: 'can again' })
    outage.began()
    outage.works()
    outage.works()
    expect(lines.map(({ msg, failures }) => ({ msg, failures }))).to.deep.equal([
      { msg: 'can again', failures: 0 },
    ])
  })

  it('has each code once, however they alternate, and all of them again in the next outage', () => {
    const { lines, logger } = capture()
    const outage = createOutageLog({ logger, failing: 'cannot', again: 'can again' })
    const warned = () => lines.splice(0).filter(({ level }) => level === WARN)
    const fail = (): void => {
      outage.failed(new HowdahError('broker_unavailable', 'first node: refused'))
      outage.failed(new HowdahError('configuration', 'second node: wrong password'))
      outage.failed(new TypeError('a defect'))
    }
    fail()
    fail()
    const [, , defect, ...more] = warned()
    expect(more).to.deep.equal([])
    expect(defect?.err?.stack).to.include('outage-log.test.ts')
    outage.works()
    fail()
    expect(warned()).to.have.length(3)
  })

  it('of a connection that is never made has one warning without a stack', async () => {
    const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    const { lines, logger } = capture()
    try {
      const opening = failure(
        openConnection({
          ...{ url: `amqp://127.0.0.1:${port}`, logger, waitMs: 1_500 },
          ...{ shownAs: { name: 'test', version: undefined }, purpose: 'publish' },
        }),
      )
      const attempts = () => lines.filter(({ msg }) => msg === 'cannot connect to RabbitMQ')
      await poll(async () => (attempts().length >= 3 ? true : undefined), {
        deadlineMs: 1_500,
        failure: () => JSON.stringify(lines),
      })
      const [first, ...repeats] = attempts()
      expect(first).to.include({ level: WARN, code: 'broker_unavailable', failures: 1 })
      expect(repeats.every(({ level }) => level === DEBUG)).to.equal(true)
      expect(JSON.stringify(attempts())).to.not.include('"stack"')
      expect(await opening).to.include({ code: 'broker_unavailable' })
    } finally {
      server.close()
    }
  })
})
