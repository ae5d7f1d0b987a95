/** Which bundle a verb installs. */
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Bundle, openBundle } from '../../fleet/install/bundle.ts'
import type { OptionDescription } from '../verb-description.ts'

export const bundleOption: OptionDescription = {
  flags: '--bundle <FILE>',
  description: 'The bundle, howdah-VERSION-linux-x64.tar.gz, with FILE.sha256 beside it.',
  defaultText: 'the one in dist/ of this checkout, or in /var/cache/howdah',
  parse: (text) => path.resolve(text),
}

/** @throws HowdahError `configuration` */
export function findBundle(file: string | undefined): Promise<Bundle> {
  // In dist/ of the checkout, where this file is a source, or built.
  const directories = ['../../../dist', '../../..'].map((directory) =>
    fileURLToPath(new URL(directory, import.meta.url)),
  )
  return openBundle(file, [...directories, '/var/cache/howdah'])
}
