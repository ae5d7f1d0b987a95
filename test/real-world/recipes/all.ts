/** Every scenario of the corpus. */
import type { Scenario } from '../scenario.ts'
import { access } from './access.ts'
import { archives } from './archives.ts'
import { barmanElsewhere } from './barman.ts'
import { broker } from './broker.ts'
import { configuration } from './configuration.ts'
import { contents } from './contents.ts'
import { directories } from './directories.ts'
import { ownSettings } from './own-settings.ts'
import { sound } from './sound.ts'
import { tablespaces } from './tablespaces.ts'

export const SCENARIOS: readonly Scenario[] = [
  ...sound,
  ...tablespaces,
  ...access,
  ...ownSettings,
  ...configuration,
  ...contents,
  ...directories,
  ...archives,
  ...barmanElsewhere,
  ...broker,
]
