/** A result of every step, as an agent would give it. */
import type { StepResult } from '../../messages/steps.ts'
import type { StepName } from '../../messages/values.ts'

export const stepResults = {
  resolve: {
    backup: { label: '20261122-055302F', type: 'full', postgresVersion: '15' },
    totalBytes: 1_500_000_000,
    fileCount: 1300,
    tablespaces: ['16390'],
    dataPlane: { mountAgent: 'backup-1', host: '127.0.0.1', port: 7420, ticket: 'signed' },
  },
  preflight: {
    port: 54320,
    user: 'postgres',
    binaries: '/usr/lib/postgresql/15/bin',
    mountPoint: '/tmp/howdah/shop-abc234',
    cachePath: '/var/tmp/howdah/shop-abc234',
    warnings: [],
  },
  mount: { mountPoint: '/tmp/howdah/shop-abc234', cachePath: '/var/tmp/howdah/shop-abc234' },
  recover: {
    connection: {
      host: '/var/tmp/howdah/shop-abc234/run',
      port: 54320,
      socketDirectory: '/var/tmp/howdah/shop-abc234/run',
      user: 'postgres',
    },
    warnings: ['the collation version differs'],
  },
  export: { databases: [] },
} satisfies { [S in StepName]: StepResult<S> }
