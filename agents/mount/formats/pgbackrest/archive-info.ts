/** archive.info: the directories of a cluster's WAL archive, and its passphrase. */
import type { Passphrase } from '../../decode/aes-cbc.ts'
import { digits, MalformedInfo, parseObject, passphraseOf, readInfo } from './ini.ts'

export interface Cluster {
  readonly systemIdentifier: string | undefined
  readonly postgresVersion: string
}

export interface ArchiveInfo {
  /** The archive directories of a cluster, oldest first. */
  readonly ids: readonly string[]
  /** Of the WAL; undefined where it is not encrypted. */
  readonly passphrase: Passphrase | undefined
}

/** @throws MalformedInfo */
export function archiveInfo(bytes: Buffer, cluster: Cluster): ArchiveInfo {
  let passphrase: Passphrase | undefined
  const found: { id: number; version: string }[] = []
  readInfo(bytes, (section, key, value) => {
    if (section === 'cipher') passphrase = passphraseOf(key, value) ?? passphrase
    if (section !== 'db:history') return
    const version = parseObject(key, value)['db-version']
    if (typeof version !== 'string' || !/^[0-9.]{1,8}$/.test(version) || !/^\d{1,9}$/.test(key)) {
      throw new MalformedInfo(`history entry ${key} is not valid`)
    }
    const same = cluster.systemIdentifier === undefined || digits(value, 'db-id') === cluster.systemIdentifier
    if (same && version === cluster.postgresVersion) found.push({ id: Number(key), version })
  })
  const ids = found.sort((a, b) => a.id - b.id).map(({ id, version }) => `${version}-${id}`)
  return { ids, passphrase }
}
