/** The beginning of backup.manifest, which tells what stands before the files without the whole of it being read. Pure. */

/** Enough for what stands before the files; quick to read for any size. */
export const HEAD_BYTES = 16 * 1024

/** From section `[db]`, which stands before the files; undefined when it does not stand in the manifest's head. */
export function databaseNames(head: Buffer | undefined): string[] | undefined {
  const [, section] = /\n\[db\]\n(.*?)\n\[/s.exec(head?.toString('utf8') ?? '') ?? []
  if (section === undefined) return undefined
  const names = section.split('\n').flatMap((line) => /^(.+)=\{"db-id":/.exec(line)?.[1] ?? [])
  return names.filter((name) => !/^template[01]$/.test(name)).sort()
}
