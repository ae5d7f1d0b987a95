/** Every scenario of the corpus. */
import type { Scenario } from '../scenario.ts'
import { access } from './access.ts'
import { sound } from './sound.ts'

export const SCENARIOS: readonly Scenario[] = [...sound, ...access]
