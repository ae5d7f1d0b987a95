/** Which bundle a verb installs. */
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { hostPaths } from '../../fleet/host/host-paths.ts'
import { ownVersion } from '../../fleet/host/installed-versions.ts'
import { type Bundle, openBundle } from '../../fleet/install/bundle.ts'
import { packBundle } from '../../fleet/install/pack-bundle.ts'
import type { OptionDescription } from '../verb-description.ts'

const CACHE = '/var/cache/howdah'

export const bundleOption: OptionDescription = {
  flags: '--bundle <FILE>',
  description: 'The bundle, howdah-VERSION-linux-x64.tar.gz, with FILE.sha256 beside it.',
  defaultText: `the installed version itself, packed into ${CACHE}; of a checkout, the one in dist/`,
  parse: (text) => path.resolve(text),
}

/** @throws HowdahError `configuration` */
export async function findBundle(file: string | undefined): Promise<Bundle> {
  const paths = hostPaths()
  const installed = ownVersion(paths)
  if (file === undefined && installed !== undefined)
    return openBundle(await packBundle(path.join(paths.programs, installed), CACHE), [])
  // In dist/ of the checkout, where this file is a source, or built.
  const directories = ['../../../dist', '../../..'].map((directory) =>
    fileURLToPath(new URL(directory, import.meta.url)),
  )
  return openBundle(file, [...directories, CACHE])
}
