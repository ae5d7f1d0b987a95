/** What agent and program of a trial mount agree on. */

/** As `TreeEntry.path`, which is its path below the mount point, too. */
export const TRIAL_FILE = 'data/trial'
export const TRIAL_CONTENT = 'howdah\n'
/** Longer than a trial may take. Milliseconds. */
export const TRIAL_LIFE_MS = 30_000
