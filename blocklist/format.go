package blocklist

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Format is the name and version of the list's file format, the first field of
// its header line.
//
// A list is UTF-8 text in lines, each a JSON object (RFC 8259) ended by one
// line feed. The first line is the Header, every further line an Entry, sorted
// by name and then by id, both compared byte by byte. Each line has exactly one
// spelling: the keys in the order of the Go types, no white space outside
// strings, no escapes but \" and \\, times as "2006-01-02T15:04:05Z", days as
// "2006-01-02", numbers as decimal integers, categories sorted by key. So a
// list has one text and one digest, whoever writes it down, and what the
// register says was published can be compared with what is enforced.
//
// The text is compressed (zstd, RFC 8878) and then encrypted (age) to become
// the target that the authority signs.
const Format = "cordon-list/1"

// Limits bound what a list may make its reader do. The zero value of a field
// stands for its default.
type Limits struct {
	MaxBytes   int64 // of text, after decompression; default 1 GiB
	MaxLine    int   // bytes of one line, its line feed included; default 64 KiB
	MaxEntries int   // default 3,000,000
}

func (l Limits) withDefaults() Limits {
	if l.MaxBytes <= 0 {
		l.MaxBytes = 1 << 30
	}
	if l.MaxLine <= 0 {
		l.MaxLine = 64 << 10
	}
	if l.MaxEntries <= 0 {
		l.MaxEntries = 3_000_000
	}
	return l
}

// window is the zstd window, in bytes: the memory that a reader must spend on
// decompression, whatever the input says.
const window = 8 << 20

// Decode reads a compressed list, strictly, as Parse does. A list that cannot
// be decompressed gives a plain error, all else a *ParseError.
func Decode(r io.Reader, limits Limits) (*List, error) {
	l, _, err := decode(context.Background(), r, limits)
	return l, err
}

// decode is Decode until ctx ends, and gives the SHA-256 of the text too.
func decode(ctx context.Context, r io.Reader, limits Limits) (*List, [sha256.Size]byte, error) {
	// One goroutine's worth of decoding, so that none outlives the call.
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return nil, [sha256.Size]byte{}, fmt.Errorf("decompress list: %w", err)
	}
	defer z.Close()
	text := sha256.New()
	l, err := Parse(io.TeeReader(untilEnd{ctx, z}, text), limits)
	if err != nil {
		return nil, [sha256.Size]byte{}, err
	}
	return l, [sha256.Size]byte(text.Sum(nil)), nil
}

// untilEnd reads until a context ends.
type untilEnd struct {
	ctx context.Context
	r   io.Reader
}

func (u untilEnd) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}

// ended is ctx.Err(), asked for once in a thousand of the steps of a loop over a long list.
func ended(ctx context.Context, step int) error {
	if step&1023 != 0 {
		return nil
	}
	return ctx.Err()
}

// Encode writes the list's text, compressed. The errors are those of
// (*List).Encode.
func Encode(w io.Writer, l *List) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window),
		zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return fmt.Errorf("compress list: %w", err)
	}
	if err := l.Encode(z); err != nil {
		_ = z.Close() // what was written is of no use any more
		return err
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("compress list: %w", err)
	}
	return nil
}

// SHA256 is the digest of the list's text, as the register and the block log
// name it.
func (l *List) SHA256() ([sha256.Size]byte, error) {
	text := sha256.New()
	if err := l.Encode(text); err != nil {
		return [sha256.Size]byte{}, err
	}
	return [sha256.Size]byte(text.Sum(nil)), nil
}
