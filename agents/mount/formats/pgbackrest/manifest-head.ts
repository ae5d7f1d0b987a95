/** Reads the sections at the beginning of backup.manifest, before the files, without reading all of it. */

/** Enough for the sections before the files where there are at most a hundred databases; quick to read. */
const FIRST_BYTES = 16 * 1024
/** Enough for 40,000 databases. */
const MOST_BYTES = 4 * 1024 * 1024
const GROWTH = 16

/**
 * The names in section `[db]`, without the templates; undefined when the manifest cannot be read or has no such section.
 * @param readHead reads the first bytes of the manifest, undefined when it cannot be read
 */
export async function databaseNames(
  readHead: (bytes: number) => Promise<Buffer | undefined>,
): Promise<string[] | undefined> {
  for (let bytes = FIRST_BYTES; bytes <= MOST_BYTES; bytes *= GROWTH) {
    const head = (await readHead(bytes))?.toString('utf8')
    const [, section] = /\n\[db\]\n(.*?)\n\[/s.exec(head ?? '') ?? []
    if (section !== undefined) return namesIn(section)
    // The files follow, in the sections `[target:file]` and so on.
    if (head === undefined || head.includes('\n[target:')) return undefined
  }
  return undefined
}

function namesIn(section: string): string[] {
  const names = section.split('\n').flatMap((line) => /^(.+)=\{"db-id":/.exec(line)?.[1] ?? [])
  return names.filter((name) => !/^template[01]$/.test(name)).sort()
}
