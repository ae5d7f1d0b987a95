/** Reads the sections at the beginning of backup.manifest, before the files, without reading all of it. Pure. */

/** Enough for the sections before the files; quick to read whatever the size of the manifest. */
export const HEAD_BYTES = 16 * 1024

/** From section `[db]`; undefined when the manifest's head does not contain it. */
export function databaseNames(head: Buffer | undefined): string[] | undefined {
  const [, section] = /\n\[db\]\n(.*?)\n\[/s.exec(head?.toString('utf8') ?? '') ?? []
  if (section === undefined) return undefined
  const names = section.split('\n').flatMap((line) => /^(.+)=\{"db-id":/.exec(line)?.[1] ?? [])
  return names.filter((name) => !/^template[01]$/.test(name)).sort()
}
