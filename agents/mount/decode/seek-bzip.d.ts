/** The part of seek-bzip that bzip2-worker.ts uses; the package brings no types. */
declare module 'seek-bzip' {
  class Stream {}
  const Bunzip: {
    readonly Stream: typeof Stream
    decode(input: Stream, output: Stream, multistream: boolean): void
  }
  export default Bunzip
}
