/** The file of a trial mount, as both the agent and the program of the mount know it. */

/** As in `TreeEntry.path`; also its path below the mount point. */
export const TRIAL_FILE = 'data/trial'
export const TRIAL_CONTENT = 'howdah\n'
/** The program ends after this; longer than a trial may take. Milliseconds. */
export const TRIAL_LIFE_MS = 30_000
