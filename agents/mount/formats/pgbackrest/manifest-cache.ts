/**
 * Manifests, shared by all readers that have the same backup open: one of 100,000 files takes half a second to parse
 * and tens of megabytes. A manifest that is not in use is kept for a minute, and only a few of them.
 */
import { stat } from 'node:fs/promises'
import type { Manifest } from './manifest.ts'

const KEPT_MS = 60_000
const KEPT = 4

export interface ManifestCache {
  /** The manifest at `path`, by `read` unless the file is the one that was read before. */
  get(path: string, read: () => Promise<Manifest>): Promise<Manifest>
}

interface Shared {
  readonly identity: string
  readonly reading: Promise<void>
  /** Opened backups hold the tree, so that the reference shows whether one is left. */
  manifest: (Omit<Manifest, 'tree'> & { readonly tree: WeakRef<Manifest['tree']> }) | undefined
}

export function createManifestCache(): ManifestCache {
  const shared = new Map<string, Shared>()
  /** Trees that are kept even where no backup is open, oldest first. */
  const kept = new Set<Manifest['tree']>()

  function keep(tree: Manifest['tree']): void {
    kept.add(tree)
    for (const oldest of kept) {
      if (kept.size <= KEPT) break
      kept.delete(oldest)
    }
    setTimeout(() => kept.delete(tree), KEPT_MS).unref()
  }

  async function readShared(
    path: string,
    identity: string,
    read: () => Promise<Manifest>,
  ): Promise<Manifest> {
    const reading = read()
    const entry: Shared = {
      identity,
      manifest: undefined,
      reading: reading.then(
        () => undefined,
        () => undefined,
      ),
    }
    shared.set(path, entry)
    try {
      const manifest = await reading
      entry.manifest = { ...manifest, tree: new WeakRef(manifest.tree) }
      keep(manifest.tree)
      return manifest
    } catch (error) {
      if (shared.get(path) === entry) shared.delete(path)
      throw error
    }
  }

  return {
    async get(path, read) {
      const identity = await stat(path).then(
        ({ ino, size, mtimeMs, ctimeMs }) => `${ino} ${size} ${mtimeMs} ${ctimeMs}`,
        () => undefined,
      )
      // Without the file there is only its copy, which should soon be repaired: not worth caching.
      if (identity === undefined) return read()
      const known = shared.get(path)
      if (known?.identity === identity) {
        await known.reading
        const tree = known.manifest?.tree.deref()
        if (known.manifest !== undefined && tree !== undefined) return { ...known.manifest, tree }
      }
      return readShared(path, identity, read)
    },
  }
}
