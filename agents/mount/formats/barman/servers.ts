/** Finds the directories of Barman's servers: below its home, or where its own configuration says. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { AllowedRoots } from '../../decode/allowed-roots.ts'
import type { RepositoryOptions } from '../../repository.ts'
import { subdirectories } from '../subdirectories.ts'
import { readBarmanConfiguration } from './configuration.ts'
import type { ServerDirectories } from './server-directories.ts'

/** By server, in order. @throws HowdahError `repository_unavailable` | `configuration` */
export async function findServers({
  name,
  path,
  configFile,
}: RepositoryOptions): Promise<ReadonlyMap<string, ServerDirectories>> {
  if (configFile !== undefined) return new Map([...(await readBarmanConfiguration(configFile))].sort())
  if (path === undefined) {
    throw new HowdahError('configuration', `repository ${name} has neither path nor configFile`)
  }
  const found = new Map<string, ServerDirectories>()
  for (const server of await subdirectories(
    path,
    (reason) => `${name} is no Barman home: ${reason} on ${path}`,
  )) {
    const home = join(path, server)
    if (!(await readdir(home).catch((): string[] => [])).includes('base')) continue
    found.set(server, {
      backups: join(home, 'base'),
      wals: join(home, 'wals'),
      received: [join(home, 'streaming'), join(home, 'incoming')],
      meta: join(home, 'meta'),
      root: path,
    })
  }
  return found
}

/** Which directories of a server may be read. Those that Barman's own configuration names are allowed as the path is. */
export const rootsOfServer = (
  { backups, wals, received, meta, root }: ServerDirectories,
  { configFile, linkTargets = [] }: RepositoryOptions,
): AllowedRoots => ({
  root,
  linkTargets: configFile === undefined ? linkTargets : [backups, wals, ...received, meta, ...linkTargets],
})
