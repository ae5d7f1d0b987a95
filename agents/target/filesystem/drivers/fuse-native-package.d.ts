/** What Howdah uses of the package fuse-native, which has no types of its own. */
declare module 'fuse-native' {
  type Done = (error: number) => void

  /** Answers a native request: 0, a count or a negative errno first. */
  type Signal = (result: number, ...values: unknown[]) => void

  export default class Fuse {
    constructor(mountPoint: string, operations: object, options: { timeout: false })
    /** Options of mount, as they go to libfuse. */
    protected _fuseOptions(): string
    protected _op_getattr(signal: Signal, path: string): void
    protected _op_fgetattr(signal: Signal, path: string, handle: number): void
    mount(callback: (error: Error | null) => void): void
  }
}
