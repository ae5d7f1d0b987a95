/** What the data plane's client tells about its requests to whoever counts them. Called for each request: must be fast, and not throw. */

export interface DataPlaneObserver {
  /** A request was answered; of a list of ranges or a tree, all of it was received. */
  ended(request: 'read' | 'wal' | 'ranges' | 'tree', milliseconds: number, bytes: number): void
  /** A request failed for good. */
  failed(): void
  /** The last connection to the mount server was lost. */
  lost(): void
}

/** Counts nothing. */
export const UNOBSERVED: DataPlaneObserver = {
  ended: () => undefined,
  failed: () => undefined,
  lost: () => undefined,
}
