/** Tables and pages: what they show, and that they fit. */
import { expect } from 'chai'
import { formatAge, formatDuration, formatShare } from '../../coordinator/cli/format.ts'
import type { AgentView, RepositoryInventory, SessionView } from '../../messages/values.ts'
import { createFakeBus, sessionView } from './fake-bus.ts'
import { NOW, run } from './run.ts'

const AGENTS: AgentView[] = [
  {
    kind: 'mount',
    name: 'local',
    online: true,
    lastSeen: '2025-11-22T06:33:07Z',
    version: '0.1.0',
    host: 'a-very-long-host-name.backup.example.com',
    repositories: [{ name: 'prod', format: 'pgbackrest' }],
  },
  {
    kind: 'target',
    name: 'local',
    online: false,
    lastSeen: '2025-11-22T03:33:07Z',
    version: '0.1.0',
    host: 'db-7',
    postgresVersions: ['13', '15'],
  },
]

const REPOSITORIES: RepositoryInventory[] = [
  {
    repository: 'prod',
    format: 'pgbackrest',
    mountAgent: 'local',
    instances: [
      {
        instance: 'main',
        backups: [
          {
            label: '20251119-060000F_20251120-060000I',
            type: 'incremental',
            stoppedAt: '2025-11-20T06:00:00Z',
            bytes: 1_503_000_000,
            postgresVersion: '15',
            unusable:
              'block incremental backups are not read yet, which is a reason that takes several lines here',
          },
          {
            label: '20251122-060000F',
            type: 'full',
            postgresVersion: '15',
            warnings: [
              'pages with wrong checksums were found, which is told in several lines on a narrow screen',
            ],
          },
        ],
        windows: [
          {
            timeline: 1,
            from: '2025-11-22T06:00:10Z',
            to: '2025-11-22T06:20:00Z',
            fromLsn: '0/3000138',
            toLsn: '0/7000000',
            backups: ['20251122-060000F'],
            missingWal: '000000010000000000000007',
          },
        ],
        databases: ['app', 'shop'],
        moreDatabases: 4998,
        warnings: ['the WAL archive has segments that cannot be read, such as one with a rather long path'],
      },
    ],
  },
  {
    repository: 'gone',
    format: 'barman',
    mountAgent: 'local',
    instances: [],
    error: { code: 'repository_unavailable', message: '/mnt/barman cannot be read' },
  },
]

const bus = () =>
  createFakeBus({
    'session.list': ({ all }) => ({
      accepted: true,
      sessions: all === true ? [sessionView({ state: 'closed' })] : [],
      more: false,
    }),
    'session.show': () => ({ accepted: true, session: sessionView() }),
    'agent.list': () => ({ accepted: true, agents: AGENTS }),
    'inventory.list': () => ({ accepted: true, repositories: REPOSITORIES }),
  })

async function output(args: string[], columns: number): Promise<string> {
  const { status, stdout } = run(args, { bus: bus(), tty: true, columns, env: { NO_COLOR: '1', LANG: 'C' } })
  expect(await status).to.equal(0)
  return stdout()
}

describe('tables', () => {
  for (const columns of [60, 80, 120]) {
    for (const args of [['agents'], ['backups'], ['sessions', '--all'], ['show', 'main']]) {
      it(`howdah ${args.join(' ')} fits ${columns} columns`, async () => {
        const { status, stdout } = run(args, {
          bus: createFakeBus({
            'session.list': () => ({ accepted: true, sessions: [sessionView()], more: false }),
            'session.show': () => ({ accepted: true, session: sessionView({ warnings: ['w '.repeat(90)] }) }),
            'agent.list': () => ({ accepted: true, agents: AGENTS }),
            'inventory.list': () => ({ accepted: true, repositories: REPOSITORIES }),
          }),
          tty: true,
          columns,
          env: { NO_COLOR: '1' },
        })
        expect(await status).to.equal(0)
        expect(
          stdout()
            .split('\n')
            .filter((line) => [...line].length > columns),
        ).to.deep.equal([])
      })
    }
  }

  it('of backups show what is wrong with a backup and with the archive', async () => {
    const text = await output(['backups'], 120)
    expect(text).to.match(/20251122-060000F.*\n.*pages with wrong checksums/)
    expect(text).to.match(/Databases[\s\S]*segments that cannot be read/)
  })

  it('of agents show which are online and what each serves', async () => {
    const text = await output(['agents'], 120)
    expect(text).to.match(/mount +local +online +3 s ago .*prod \(pgbackrest\)/)
    expect(text).to.match(/target +local +offline +3 h ago .*PostgreSQL 13, 15/)
  })

  it('of backups show why one cannot be published, and what is wrong with a repository', async () => {
    const text = await output(['backups'], 100)
    expect(text).to.match(/20251119-060000F_20251120-060000I +incremental +2025-11-\d\d .* 2 d +1\.50 GB +15/)
    expect(text).to.include('! block incremental backups are not read yet')
    expect(text).to.include('error  /mnt/barman cannot be read').and.to.include('code repository_unavailable')
  })

  it('show the size of the changes with their quota, and warn when space runs out', async () => {
    const message = 'The changes take 8.10 GB of the quota of 10.0 GB (81 %).'
    const view = sessionView({
      state: 'published',
      writeCache: { path: '/var/tmp/howdah/s', bytes: 8_500_000_000 },
      usage: {
        fetchedBytes: 1,
        totalBytes: 2,
        cacheBytes: 8_500_000_000,
        changedBytes: 8_100_000_000,
        quotaBytes: 10_000_000_000,
        freeBytes: 35_000_000_000,
        reserveBytes: 256_000_000,
      },
      warnings: [message],
      history: [{ number: 1, at: '2025-11-22T06:31:00.000Z', type: 'warning', text: message }],
    })
    const showing = () =>
      createFakeBus({
        'session.list': () => ({ accepted: true, sessions: [view], more: false }),
        'session.show': () => ({ accepted: true, session: view }),
        'agent.list': () => ({ accepted: true, agents: AGENTS }),
      })
    const shown = async (...args: string[]): Promise<string> => {
      const { status, stdout } = run(args, { bus: showing(), env: { LANG: 'C' } })
      expect(await status).to.equal(0)
      return stdout()
    }
    const page = await shown('show', 'main')
    expect(page).to.match(/changes +8\.10 of 10\.0 GB; 35\.0 GB free on the target/)
    expect(page).to.match(/warning +The changes take 8\.10 GB/)
    expect(page).to.match(/\+1 min 00 s +warning +The changes take/)
    expect(await shown('sessions')).to.include('8.10 of 10.0 GB')
  })

  it('say how to list closed sessions when none is open', async () => {
    expect(await output(['sessions'], 80)).to.include('No open sessions; --all shows closed ones.\n')
    expect(await output(['sessions', '--all'], 80)).to.match(/main-x7f3k2 +closed +prod\/main/)
  })

  it('are one JSON document with --json', async () => {
    const documents = await Promise.all(
      [['agents'], ['backups'], ['sessions']].map(async (args) =>
        JSON.parse(await output([...args, '--json'], 80)),
      ),
    )
    const targets = [{ name: 'local', online: false, sessions: 0, cacheBytes: 0 }]
    expect(documents).to.deep.equal([
      { agents: AGENTS },
      { repositories: REPOSITORIES },
      { sessions: [], more: false, targets },
    ])
  })
})

describe('a session is shown', () => {
  const zoneBefore = process.env.TZ
  before(() => {
    process.env.TZ = 'Europe/Berlin'
  })
  after(() => {
    if (zoneBefore === undefined) delete process.env.TZ
    else process.env.TZ = zoneBefore
  })

  async function shown(args: string[], view: SessionView, agents = AGENTS): Promise<string> {
    const { status, stdout } = run(args, {
      bus: createFakeBus({
        'session.list': () => ({
          ...{ accepted: true, sessions: [view], more: false },
          targets: [{ target: 'local', sessions: 1, cacheBytes: 4_000_000_000 }],
        }),
        'session.show': () => ({ accepted: true, session: view }),
        'agent.list': () => ({ accepted: true, agents }),
        'inventory.list': () => ({ accepted: true, repositories: REPOSITORIES }),
      }),
      tty: true,
      columns: 100,
      env: { LANG: 'C', NO_COLOR: '1' },
    })
    expect(await status).to.equal(0)
    return stdout()
  }

  it('by show with its last transaction, and how long before the requested time that is', async () => {
    const recoverTo = { type: 'time' as const, value: '2025-11-22 05:00:00Z' }
    const lastCommit = '2025-11-22T04:57:58Z'
    const holds = async (reached: SessionView['reached']) =>
      shown(['show', 'main'], sessionView({ state: 'published', recoverTo, reached }))
    const far =
      /holds +transactions up to .*\(04:57:58 UTC\), 2 min 02 s before the time\s+asked for; LSN 0\/5000060/
    expect(await holds({ lsn: '0/5000060', lastCommit, secondsBefore: 122 })).to.match(far)
    expect(await holds({ lsn: '0/5000060', lastCommit })).to.match(far)
    expect(await holds({ lsn: '0/5000060' })).to.match(
      /holds +no transaction after the backup; LSN 0\/5000060/,
    )
    expect(await holds(undefined)).not.to.include('holds')
  })

  it('by show with pause, expiry, changes, exports and reachability, each with the command to use', async () => {
    const page = await shown(
      ['show', 'main'],
      sessionView({
        state: 'published',
        recoverTo: { type: 'time', value: '2025-11-22 05:00:00Z' },
        paused: { lsn: '0/5000060', lastCommit: '2025-11-22T04:59:58Z' },
        expiresAt: '2025-11-22T10:33:10Z',
        changes: { changed: true, databases: ['shop'] },
        reachability: { reachable: false, since: '2025-11-22T06:32:10Z', failedReads: 3 },
        exports: [
          {
            id: 'e1',
            request: { destination: { type: 'directory', path: '/srv/rescue' } },
            status: 'done',
            requestedAt: '2025-11-22T06:31:10Z',
            databases: [{ database: 'shop', status: 'done', rows: 7, path: '/srv/rescue/shop' }],
          },
        ],
      }),
    )
    expect(page).to.match(
      /paused +at 0\/5000060, last commit 2025-11-22 05:59:58\+01 \(04:59:58 UTC\); read-only/,
    )
    expect(page).to.include('howdah promote main-x7f3k2')
    expect(page).to.match(/expires +2025-11-22 11:33:10\+01 \(10:33:10 UTC, in 4 h\)/)
    expect(page).to.match(/recover to +time=2025-11-22 05:00:00Z, 2025-11-22 06:00:00\+01/)
    expect(page).to.match(/changed in +shop/)
    expect(page).to.match(/mount server +cannot be reached since 2025-11-22 07:32:10\+01 .* 3 reads\s+failed/)
    expect(page).to.match(/Export e1 +done/)
    expect(page).to.match(/shop +7 rows, in \/srv\/rescue\/shop/)
  })

  it('by show with the verb to use when it waits for a retry or its changes were kept', async () => {
    const waiting = await shown(['show', 'main'], sessionView({ state: 'disrupted', awaitsRetry: true }))
    expect(waiting).to.match(/waits +for "howdah retry main-x7f3k2"/)
    const kept = await shown(['show', 'main'], sessionView({ state: 'closed', keptCache: true }))
    expect(kept).to.match(/kept +its changes; "howdah retry main-x7f3k2"/)
  })

  it('by show with its history: durations, local time and UTC, each step once, long texts wrapped', async () => {
    const at = '2025-11-22T06:30:01.500Z'
    const stepEntry = { step: 'mount', direction: 'run', sequence: 3, type: 'step', at } as const
    const page = await shown(
      ['show', 'main'],
      sessionView({
        history: [
          { number: 1, at: '2025-11-22T06:30:00.000Z', type: 'command', text: 'publish main of prod' },
          { ...stepEntry, number: 2, text: 'mount sent to its agent', status: 'sent' },
          {
            ...stepEntry,
            number: 3,
            text: `mount done ${'and more '.repeat(12)}`,
            status: 'done',
            milliseconds: 110,
          },
          { ...stepEntry, number: 4, sequence: 4, text: 'recover sent to its agent', status: 'sent' },
        ],
      }),
    )
    expect(page).to.match(/2025-11-22 07:30:01\+01 +06:30:01 +\+1\.50 s +(step +)?0\.11 s +mount done/)
    expect(page).not.to.include('mount sent')
    expect(page).to.match(/3 min 09 s~ +recover sent/)
    expect(page.split('\n').filter((line) => [...line].length > 100)).to.deep.equal([])
  })

  it('by show with its reference and labels', async () => {
    const tags = { reference: 'job 4711', labels: { team: 'billing', 'a.b/c': 'x' } }
    const page = await shown(['show', 'main-x7f3k2'], sessionView(tags))
    expect(page).to.match(/reference +job 4711\n +label +team=billing\n +label +a\.b\/c=x\n/)
  })

  it('by sessions with pause and expiry, and with the limits of its target', async () => {
    const [mount, target] = AGENTS as [AgentView, AgentView]
    const usage = { fetchedBytes: 1, totalBytes: 2, cacheBytes: 4_000_000_000 }
    const view = sessionView({
      state: 'published',
      paused: { lsn: '0/1' },
      expiresAt: '2025-11-22T10:33:10Z',
      usage,
    })
    const limited = { ...target, online: true, limits: { sessions: 4, cacheBytes: 100_000_000_000 } }
    const text = await shown(['sessions'], view, [mount, limited])
    expect(text).to.match(/main-x7f3k2 +paused .* in 4 h/)
    expect(text).to.match(/target local +1 of 4 sessions, write caches 4\.00 of 100 GB/)
    expect(await shown(['agents'], view, [limited])).to.match(/4 sessions, 100 GB of changes/)
  })

  it('by backups with the period of each timeline that can be recovered, and the first missing segment', async () => {
    const text = await shown(['backups'], sessionView())
    expect(text).to.include('Recoverable on timeline 1')
    expect(text).to.match(/from +2025-11-22 07:00:10\+01 \(06:00:10 UTC\), LSN 0\/3000138/)
    expect(text).to.match(/to +2025-11-22 07:20:00\+01 \(06:20:00 UTC\), the last commit, LSN 0\/7000000/)
    expect(text).to.match(/gap +after it the archive lacks 000000010000000000000007/)
    expect(text).to.match(/Databases\n +app, shop and 4998 more/)
    expect(text).to.match(/2025-11-20 07:00:00\+01 +06:00:00/)
  })
})

describe('numbers in the output', () => {
  it('are shares that name a common unit once', () => {
    expect([formatShare(12_400_000, 62_000_000), formatShare(12_400_000, 1.5e9)]).to.deep.equal([
      '12.4 of 62.0 MB',
      '12.4 MB of 1.50 GB',
    ])
  })

  it('are durations from hundredths of a second to days, never negative', () => {
    const durations = [-5, 40, 9994, 9999, 59_949, 59_960, 185_000, 7_800_000, 273_600_000].map(
      formatDuration,
    )
    expect(durations).to.deep.equal([
      '0.00 s',
      '0.04 s',
      '9.99 s',
      '10.0 s',
      '59.9 s',
      '1 min 00 s',
      '3 min 05 s',
      '2 h 10 min',
      '3 d 4 h',
    ])
  })

  it('are ages with one unit', () => {
    const ages = [0, 12, 200, 7200, 172_800, -200].map((seconds) =>
      formatAge(new Date(NOW.getTime() - seconds * 1000), NOW),
    )
    expect(ages).to.deep.equal(['now', '12 s ago', '3 min ago', '2 h ago', '2 d ago', 'in 3 min'])
  })
})
