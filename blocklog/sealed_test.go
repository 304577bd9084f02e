package blocklog

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"cordon/durable"
	"cordon/durable/durabletest"
)

func TestWhatIsSealedIsReadAsItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "sealed.json")
	want := Sealed{Format: SealedFormat, Next: 1 << 40, At: noon.UTC()}
	if err := want.Write(durable.OS{}, path); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadSealed(path); err != nil || got.Next != want.Next || !got.At.Equal(want.At) {
		t.Errorf("got %+v, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v: the resolver's user has to read it", info.Mode(), err)
	}
}

// The resolver removes by it: half a file must never be one.
func TestWhatIsSealedIsOldOrNewWhereverItIsCutOff(t *testing.T) {
	for at, whole := 1, false; !whole; at++ {
		for _, loss := range []durabletest.Loss{durabletest.Killed, durabletest.Names, durabletest.Contents} {
			path := filepath.Join(t.TempDir(), "sealed.json")
			if err := (Sealed{Next: 10, At: noon}).Write(durabletest.Quick{}, path); err != nil {
				t.Fatal(err)
			}
			err := Sealed{Next: 20, At: noon}.Write(durabletest.New(at, durabletest.Half, loss), path)
			whole = err == nil
			if got, rerr := ReadSealed(path); rerr != nil || got.Next != 20 && (whole || got.Next != 10) {
				t.Errorf("call %d: %v, then %+v, %v", at, err, got, rerr)
			}
		}
	}
}

func FuzzSealed(f *testing.F) {
	f.Add([]byte(`{"format":"cordon-sealed/1","next_seq":7,"at":"2026-03-01T12:00:00Z"}`))
	f.Add([]byte(`{"format":"cordon-sealed/1","next_seq":-1,"at":"2026-03-01T12:00:00Z"}`))
	f.Add([]byte(`{"format":"cordon-sealed/1","at":"2026-03-01T12:00:00Z"}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := parseSealed(raw)
		if err == nil && (s.Format != SealedFormat || s.Next == 0 || s.At.After(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))) {
			t.Errorf("%s gives %+v", raw, s)
		}
		if err != nil && s != (Sealed{}) {
			t.Errorf("%s gives %+v beside %v", raw, s, err)
		}
	})
}
