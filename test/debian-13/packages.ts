/** Makes a Debian 13 in which bin/prepare has installed what the tests need, once for each state of what it installs by. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { DEBIAN_13, type Layers, layerOver } from '../support/layers.ts'

const CHECKOUT = path.join(import.meta.dirname, '../..')
const FILES = [
  'bin/prepare',
  'test/prepare/system-packages.sh',
  'test/prepare/caches.sh',
  'test/prepare/packages.txt',
]
const END = 'END OF THE FILE'

/** The first time it takes some minutes and the network. */
export async function debianWithPackages(): Promise<Layers> {
  const copies = FILES.map(async (file) => {
    const text = await readFile(path.join(CHECKOUT, file), 'utf8')
    return `mkdir -p ${path.dirname(file)} && cat >${file} <<'${END}'\n${text}${END}`
  })
  const script = [
    'set -e; mkdir /tmp/howdah && cd /tmp/howdah',
    ...(await Promise.all(copies)),
    'sh bin/prepare test --only-packages',
    'apt-get clean && rm -rf /tmp/howdah /var/lib/apt/lists/*',
  ]
  return layerOver(DEBIAN_13, script.join('\n'))
}
