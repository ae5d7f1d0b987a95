/** The table of metrics in docs/monitoring.md: what the dashboard and the alert rules may use, and what real roles must answer. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Role } from '../support/fleet-roles.ts'

export interface DocumentedMetric {
  readonly type: string
  readonly labels: readonly string[]
  readonly roles: readonly Role[]
}

const ALL: readonly Role[] = ['coordinator', 'mount-agent', 'target-agent']
const OF: Readonly<Record<string, readonly Role[]>> = {
  all: ALL,
  coordinator: ['coordinator'],
  agents: ['mount-agent', 'target-agent'],
  'mount agent': ['mount-agent'],
  'target agent': ['target-agent'],
}

/** By name. @throws Error for a row that names no role */
export function documentedMetrics(): Map<string, DocumentedMetric> {
  const text = readFileSync(join(import.meta.dirname, '../../docs/monitoring.md'), 'utf8')
  const rows = text.split('\n').filter((line) => line.startsWith('| `howdah_'))
  return new Map(
    rows.map((row) => {
      const [, name = '', type = '', labels = '', of = ''] = row.split('|').map((cell) => cell.trim())
      const roles = OF[of]
      if (roles === undefined) throw new Error(`docs/monitoring.md: ${name} is of "${of}"`)
      const found = Array.from(labels.matchAll(/`(\w+)`/g), ([, label = '']) => label)
      return [name.replaceAll('`', ''), { type, labels: found, roles }]
    }),
  )
}
