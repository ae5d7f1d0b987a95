/** The dashboard, the alert rules and the sample of Prometheus: right by Prometheus' own program, and about metrics that there are. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { parse, stringify } from 'yaml'
import { scratchDirectory } from '../support/scratch.ts'
import { SCENARIOS, type Scenario, WELL } from './alert-scenarios.ts'
import { documentedMetrics } from './catalogue.ts'
import { groupedBy, usesOf } from './expressions.ts'

const run = promisify(execFile)
const FILES = path.join(import.meta.dirname, '../../docs/monitoring')
const read = (name: string): string => readFileSync(path.join(FILES, name), 'utf8')

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: { readonly severity: string }
  readonly annotations: Readonly<Record<string, string>>
}
interface Panel {
  readonly id: number
  readonly title: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[]
}

const rules = (parse(read('alerts.yml')) as { groups: { rules: Rule[] }[] }).groups.flatMap(
  (group) => group.rules,
)
const { panels } = JSON.parse(read('grafana.json')) as { panels: Panel[] }
/** By where it is; the variables of the dashboard have values. */
const expressions = new Map<string, string>([
  ...rules.map(({ alert, expr }) => [`alert ${alert}`, expr] as const),
  ...panels.flatMap(({ title, targets = [] }) =>
    targets.map(
      ({ expr }, index) =>
        [
          `panel "${title}", ${index + 1}`,
          expr.replaceAll('$__rate_interval', '5m').replaceAll('$job', '.*'),
        ] as const,
    ),
  ),
])

const metrics = documentedMetrics()
/** Labels that Prometheus adds. */
const SCRAPED = ['job', 'instance', 'le']
const SUFFIX = /_(bucket|sum|count)$/

/** What is wrong with the use of a metric; empty: nothing. */
function wrongUses(expression: string): string[] {
  const grouped = groupedBy(expression)
  const known = new Set(SCRAPED)
  const wrong = usesOf(expression).flatMap(({ metric, labels, ranged }) => {
    if (!metric.startsWith('howdah_')) return []
    const histogram = metrics.get(metric.replace(SUFFIX, ''))
    const isSeries = SUFFIX.test(metric) && histogram?.type === 'histogram'
    const found = isSeries ? histogram : metrics.get(metric)
    if (found === undefined) return [`there is no ${metric}`]
    for (const label of found.labels) known.add(label)
    const isCounter = isSeries || found.type === 'counter'
    const isRate = ranged === 'rate' || ranged === 'increase'
    return [
      ...(!isSeries && found.type === 'histogram' ? [`${metric} has only _bucket, _sum and _count`] : []),
      ...(isCounter && !isRate ? [`${metric} is a counter, and only its increase says something`] : []),
      ...(!isCounter && isRate ? [`${metric} is a gauge, and has no ${ranged}`] : []),
      ...labels
        .filter((label) => ![...SCRAPED, ...found.labels].includes(label))
        .map((label) => `${metric} has no label ${label}`),
    ]
  })
  const groups = grouped.filter((label) => !known.has(label)).map((label) => `nothing has the label ${label}`)
  const quantile = expression.includes('histogram_quantile') && !/_bucket\b/.test(expression)
  return [...wrong, ...groups, ...(quantile ? ['histogram_quantile takes buckets'] : [])]
}

describe('the files for Prometheus and Grafana', function () {
  this.timeout(60_000)
  let directory: string

  before(async () => {
    directory = await scratchDirectory('howdah-monitoring-')
  })

  after(() => rm(directory, { recursive: true }))

  /** What promtool says, whether it fails or not. */
  async function promtool(...args: string[]): Promise<{ failed: boolean; output: string }> {
    const outcome = await run('promtool', args).then(
      ({ stdout, stderr }) => ({ failed: false, output: stdout + stderr }),
      (error: { stdout: string; stderr: string }) => ({ failed: true, output: error.stdout + error.stderr }),
    )
    return outcome
  }

  async function file(name: string, content: unknown): Promise<string> {
    const written = path.join(directory, name)
    await writeFile(written, stringify(content))
    return written
  }

  it('are rules and a configuration that Prometheus takes', async () => {
    for (const [kind, name] of [
      ['rules', 'alerts.yml'],
      ['config', 'prometheus.yml'],
    ] as const) {
      const { failed, output } = await promtool('check', kind, path.join(FILES, name))
      expect(failed, output).to.equal(false)
    }
  })

  it('have expressions of the dashboard that Prometheus understands', async () => {
    expect(expressions.size).to.be.greaterThan(60)
    const recorded = [...expressions.values()].map((expr, index) => ({ record: `expression:${index}`, expr }))
    const { failed, output } = await promtool(
      ...['check', 'rules', await file('expressions.yml', { groups: [{ name: 'all', rules: recorded }] })],
    )
    expect(failed, output).to.equal(false)
  })

  it('use metrics and labels that there are, each as its type allows', () => {
    const wrong = [...expressions].flatMap(([where, expression]) =>
      wrongUses(expression).map((what) => `${where}: ${what}`),
    )
    expect(wrong).to.deep.equal([])
  })

  it('would not use others: the check finds a missing metric, a wrong type and a wrong label', () => {
    expect(wrongUses('rate(howdah_sessions[5m])')).to.deep.equal([
      'howdah_sessions is a gauge, and has no rate',
    ])
    expect(wrongUses('howdah_fuse_bytes_total > 1')).to.deep.equal([
      'howdah_fuse_bytes_total is a counter, and only its increase says something',
    ])
    expect(wrongUses('howdah_sessions{colour="red"}')).to.deep.equal(['howdah_sessions has no label colour'])
    expect(wrongUses('max by (colour) (howdah_sessions)')).to.deep.equal(['nothing has the label colour'])
    expect(wrongUses('howdah_session_count')).to.deep.equal(['there is no howdah_session_count'])
    expect(wrongUses('sum(rate(howdah_publish_seconds[5m]))')).to.include(
      'howdah_publish_seconds has only _bucket, _sum and _count',
    )
    expect(wrongUses('histogram_quantile(0.9, rate(howdah_publish_seconds_sum[5m]))')).to.deep.equal([
      'histogram_quantile takes buckets',
    ])
  })

  it('show every metric of the table somewhere, or raise an alert by it', () => {
    const used = new Set(
      [...expressions.values()].flatMap(usesOf).flatMap(({ metric }) => [metric, metric.replace(SUFFIX, '')]),
    )
    // Beside another one that is shown.
    const beside = [
      'howdah_agent_step_seconds',
      'howdah_messages_published_total',
      'howdah_fetched_blocks_bytes',
      'howdah_fetches_in_flight',
    ]
    expect([...metrics.keys()].filter((name) => !used.has(name))).to.have.members(beside)
  })

  it('have an alert for each scenario, which is raised by it, with a severity and what to do', async () => {
    expect(Object.keys(SCENARIOS).sort()).to.deep.equal(rules.map(({ alert }) => alert).sort())
    for (const { alert, labels, annotations } of rules) {
      expect(['page', 'ticket'], alert).to.include(labels.severity)
      expect(Object.keys(annotations), alert).to.deep.equal(['summary', 'description'])
    }
    const { failed, output } = await promtool(
      ...['test', 'rules', await file('raised.yml', ruleTests(Object.entries(SCENARIOS), 1))],
    )
    expect(failed, output).to.equal(false)
  })

  it('raise no alert while all is well', async () => {
    const { failed, output } = await promtool(
      ...['test', 'rules', await file('well.yml', ruleTests([['.*', WELL]], 0))],
    )
    expect(failed, output).to.equal(false)
  })

  it('have panels that do not overlap', () => {
    const taken = new Map<string, string>()
    for (const { title, gridPos } of panels) {
      expect(gridPos.x + gridPos.w, title).to.be.at.most(24)
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(taken.get(`${x} ${y}`), `beside "${title}"`).to.equal(undefined)
          taken.set(`${x} ${y}`, title)
        }
    }
    expect(new Set(panels.map(({ id }) => id)).size).to.equal(panels.length)
  })

  /** In the form of `promtool test rules`: how many alerts whose names match fire in each scenario. */
  function ruleTests(scenarios: readonly (readonly [name: string, Scenario])[], fire: number) {
    return {
      rule_files: [path.join(FILES, 'alerts.yml')],
      evaluation_interval: '1m',
      tests: scenarios.map(([name, { series, at }]) => ({
        interval: '1m',
        input_series: Object.entries(series).map(([one, values]) => ({ series: one, values })),
        promql_expr_test: [
          {
            expr: `count(ALERTS{alertname=~"${name}", alertstate="firing"}) or vector(0)`,
            eval_time: at,
            exp_samples: [{ labels: '{}', value: fire }],
          },
        ],
      })),
    }
  }
})
