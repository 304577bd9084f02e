package blocklog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
)

// A record in a segment, integers big-endian:
//
//	length   uint32  bytes of the body
//	crc      uint32  CRC32C (Castagnoli) of length and body
//	body:
//	  kind   uint8   1 decision, 2 event
//	  seq    uint64
//	  time   uint64  seconds since the epoch
//	  decision: count uint32, type uint16, transport uint8, action uint8,
//	            name (uint8 length, wire form), matches (uint8 number of:
//	            list (uint8 length, bytes), serial uint64, entry (uint8 length, bytes))
//	  event:    kind (uint8 length, bytes), data (the rest)
//
// There is one encoding for each record: Decode accepts nothing else, so that
// bytes which carry more than the fields cannot hide in a segment.
const (
	frameSize   = 8              // length and crc
	prefixSize  = 1 + 8 + 8      // kind, seq, time
	countOffset = prefixSize     // of a decision's count in its body
	keyOffset   = prefixSize + 4 // of what has to be equal for decisions to be merged

	kindDecision = 1
	kindEvent    = 2

	maxName  = 255
	maxLabel = 63
	maxField = 255
	maxKind  = 64

	minBody = prefixSize + 1
	// maxBody is the longest body: an event with the most data. The longest
	// decision, 32 matches of 520 bytes, is shorter.
	maxBody = prefixSize + 1 + maxKind + MaxEventData
)

// MaxRecord is the length of the longest raw record in bytes.
const MaxRecord = frameSize + maxBody

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	// errShort: the bytes end before the record does.
	errShort = errors.New("record is cut short")
	// errDamaged: the bytes are not a record.
	errDamaged = errors.New("not a record")
)

// begin appends room for the frame, and the common fields.
func begin(b []byte, kind byte, seq uint64, time int64) []byte {
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, kind)
	b = binary.BigEndian.AppendUint64(b, seq)
	return binary.BigEndian.AppendUint64(b, uint64(time))
}

// seal fills in length and checksum of the record that is all of frame.
func seal(frame []byte) {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-frameSize))
	binary.BigEndian.PutUint32(frame[4:], checksum(frame))
}

func checksum(frame []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, frame[:4]), castagnoli, frame[frameSize:])
}

// appendDecision appends an unsealed record. d has passed check.
func appendDecision(b []byte, seq uint64, time int64, d *Decision) []byte {
	b = begin(b, kindDecision, seq, time)
	b = binary.BigEndian.AppendUint32(b, max(d.Count, 1))
	b = binary.BigEndian.AppendUint16(b, d.Type)
	b = append(b, byte(d.Transport), byte(d.Action), byte(len(d.Name)))
	b = append(b, d.Name...)
	b = append(b, byte(len(d.Matches)))
	for i := range d.Matches {
		m := &d.Matches[i]
		b = append(b, byte(len(m.List)))
		b = append(b, m.List...)
		b = binary.BigEndian.AppendUint64(b, m.Serial)
		b = append(b, byte(len(m.Entry)))
		b = append(b, m.Entry...)
	}
	return b
}

// appendEvent appends an unsealed record. e has passed check.
func appendEvent(b []byte, seq uint64, time int64, e *Event) []byte {
	b = begin(b, kindEvent, seq, time)
	b = append(b, byte(len(e.Kind)))
	b = append(b, e.Kind...)
	return append(b, e.Data...)
}

// check says what a record cannot hold. It does not allocate for a decision
// that is in order.
func (d *Decision) check() error {
	switch {
	case !validName(d.Name):
		return fmt.Errorf("decision: question name %x is not in wire form, lower case and uncompressed", d.Name)
	case d.Transport < UDP || d.Transport > DoQ:
		return fmt.Errorf("decision: unknown transport %d", d.Transport)
	case d.Action < StopPage || d.Action > LocalData:
		return fmt.Errorf("decision: unknown action %d", d.Action)
	case len(d.Matches) < 1 || len(d.Matches) > MaxMatches:
		return fmt.Errorf("decision: %d matches; between 1 and %d are possible", len(d.Matches), MaxMatches)
	}
	for i := range d.Matches {
		m := &d.Matches[i]
		if m.List == "" || len(m.List) > maxField || m.Entry == "" || len(m.Entry) > maxField {
			return fmt.Errorf("decision: names of list %q and entry %q have to be 1 to %d bytes long", m.List, m.Entry, maxField)
		}
	}
	return nil
}

func (e *Event) check() error {
	if !validKind(e.Kind) {
		return fmt.Errorf("event: type %q is reserved, or not 1 to %d lower-case letters, digits, dots and hyphens", e.Kind, maxKind)
	}
	if len(e.Data) > MaxEventData {
		return fmt.Errorf("event %s: data of %d bytes is longer than %d", e.Kind, len(e.Data), MaxEventData)
	}
	canonical, err := Canonical(e.Data)
	if err != nil {
		return fmt.Errorf("event %s: data: %w", e.Kind, err)
	}
	if string(canonical) != string(e.Data) || e.Data[0] != '{' {
		return fmt.Errorf("event %s: data is not a canonical JSON object", e.Kind)
	}
	return nil
}

// validName holds for one whole name in wire form (RFC 1035 §3.1),
// uncompressed, without upper-case ASCII letters.
func validName(name []byte) bool {
	if len(name) == 0 || len(name) > maxName {
		return false
	}
	for i := 0; i < len(name); {
		n := int(name[i])
		if n == 0 {
			return i == len(name)-1
		}
		if n > maxLabel || i+1+n > len(name) {
			return false
		}
		for _, c := range name[i+1 : i+1+n] {
			if 'A' <= c && c <= 'Z' {
				return false
			}
		}
		i += 1 + n
	}
	return false
}

// validKind refuses also the types of audit leaves that are no events, so that
// an event cannot pass for one of them.
func validKind(kind string) bool {
	if kind == "decision" || kind == "decisions" || strings.HasPrefix(kind, "auditor.") {
		return false
	}
	for _, c := range []byte(kind) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '-') {
			return false
		}
	}
	return len(kind) >= 1 && len(kind) <= maxKind
}

// frame finds the whole record at the start of raw: errShort when raw may be
// its beginning, errDamaged when it is not.
func frame(raw []byte) ([]byte, error) {
	if len(raw) < frameSize {
		return nil, errShort
	}
	n := binary.BigEndian.Uint32(raw)
	if n < minBody || n > maxBody {
		return nil, fmt.Errorf("%w: length %d", errDamaged, n)
	}
	if uint32(len(raw)-frameSize) < n {
		return nil, errShort
	}
	f := raw[:frameSize+int(n)]
	if binary.BigEndian.Uint32(f[4:]) != checksum(f) {
		return nil, fmt.Errorf("%w: checksum does not match", errDamaged)
	}
	return f, nil
}

// frameSeq is the sequence number of a whole frame.
func frameSeq(f []byte) uint64 { return binary.BigEndian.Uint64(f[frameSize+1:]) }

// setFrameSeq gives an unsealed frame another number.
func setFrameSeq(f []byte, seq uint64) { binary.BigEndian.PutUint64(f[frameSize+1:], seq) }

// frameCount is how many decisions were merged into a decision's frame.
func frameCount(f []byte) uint32 { return binary.BigEndian.Uint32(f[frameSize+countOffset:]) }

// Decode reads the record at the start of raw, as [Reader.Next] and the
// auditor's raw ranges give it, and returns its length in bytes. The record
// shares no memory with raw.
func Decode(raw []byte) (Record, int, error) {
	f, err := frame(raw)
	if err != nil {
		return Record{}, 0, err
	}
	p := parser{b: f[frameSize:]}
	kind := p.u8()
	r := Record{Seq: p.u64(), Time: int64(p.u64())}
	if r.Seq == 0 || r.Seq > math.MaxInt64 || r.Time < 0 {
		return Record{}, 0, fmt.Errorf("%w: number %d, time %d", errDamaged, r.Seq, r.Time)
	}
	switch kind {
	case kindDecision:
		r.Decision, err = p.decision()
	case kindEvent:
		e := &Event{Kind: string(p.field())}
		e.Data = append(e.Data, p.b...)
		p.b = nil
		r.Event, err = e, e.check()
	default:
		err = fmt.Errorf("unknown kind %d", kind)
	}
	switch {
	case p.failed:
		err = errors.New("a field runs past the end")
	case err == nil && len(p.b) > 0:
		err = fmt.Errorf("%d bytes follow the last field", len(p.b))
	}
	if err != nil {
		return Record{}, 0, fmt.Errorf("%w: record %d: %w", errDamaged, r.Seq, err)
	}
	return r, len(f), nil
}

// parser takes fields from the front of b; failed once one is missing.
type parser struct {
	b      []byte
	failed bool
}

func (p *parser) take(n int) []byte {
	if n > len(p.b) {
		p.failed = true
		p.b = nil
		return make([]byte, n)
	}
	v := p.b[:n]
	p.b = p.b[n:]
	return v
}

func (p *parser) u8() byte      { return p.take(1)[0] }
func (p *parser) u16() uint16   { return binary.BigEndian.Uint16(p.take(2)) }
func (p *parser) u32() uint32   { return binary.BigEndian.Uint32(p.take(4)) }
func (p *parser) u64() uint64   { return binary.BigEndian.Uint64(p.take(8)) }
func (p *parser) field() []byte { return p.take(int(p.u8())) }

func (p *parser) decision() (*Decision, error) {
	d := &Decision{Count: p.u32(), Type: p.u16(), Transport: Transport(p.u8()), Action: Action(p.u8())}
	d.Name = append(d.Name, p.field()...)
	for n := p.u8(); n > 0 && !p.failed; n-- {
		d.Matches = append(d.Matches, Match{List: string(p.field()), Serial: p.u64(), Entry: string(p.field())})
	}
	if d.Count == 0 {
		return nil, errors.New("decision: a count of 0")
	}
	return d, d.check()
}
