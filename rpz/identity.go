package rpz

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"cordon/durable"
)

// Identity is what of a zone outlives a restart: a name that says nothing, and the
// last serial with the content that it was given to. It is used by one goroutine at a
// time.
type Identity struct {
	path string
	disk durable.Disk
	kept kept
}

// kept is the file's content, in JSON.
type kept struct {
	Format string `json:"format"` // identityFormat
	Name   string `json:"name"`   // made here, once; whatever the zone is called
	Serial uint32 `json:"serial"` // last used; 0: none
	Digest string `json:"digest"` // of the zone that it was used for
}

const (
	identityFormat = "cordon-rpz/1"
	maxIdentity    = 64 << 10 // bytes of the file
)

// OpenIdentity reads an identity from a file, or makes one there with a random name.
func OpenIdentity(path string) (*Identity, error) { return openIdentity(path, durable.OS{}) }

func openIdentity(path string, d durable.Disk) (*Identity, error) {
	i := &Identity{path: path, disk: d}
	raw, err := readBounded(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// A name that asks of nothing, under a domain that is never resolved (RFC 6761 §6.4).
		name := strings.ToLower(rand.Text()[:16]) + ".invalid."
		return i, i.save(kept{Format: identityFormat, Name: name})
	case err != nil:
		return nil, err
	}
	if i.kept, err = parseIdentity(raw); err != nil {
		return nil, fmt.Errorf("%s: %w; if it cannot be mended, remove it: the peers then need the zone's new name, and to fetch it anew", path, err)
	}
	return i, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxIdentity))
}

func parseIdentity(raw []byte) (k kept, err error) {
	in := json.NewDecoder(bytes.NewReader(raw))
	in.DisallowUnknownFields()
	if err := in.Decode(&k); err != nil {
		return k, err
	}
	if k.Format != identityFormat {
		return k, fmt.Errorf("format %q is not known here", k.Format)
	}
	k.Name, err = CheckName(k.Name)
	return k, err
}

// Name is a zone name that says nothing, always the same one.
func (i *Identity) Name() string { return i.kept.Name }

// Number gives a zone its serial. One with the content of the last keeps its serial.
// Any other gets one that comes after (RFC 1982), whatever became of the list: a
// peer takes a zone back only as a newer one. Serials are seconds since the epoch,
// where that comes after, so that they grow even where the file was lost. The
// serial is durable before it is given.
func (i *Identity) Number(z *Zone, now time.Time) (*Zone, error) {
	k := i.kept
	if k.Digest == z.digest && k.Serial != 0 {
		return z.WithSerial(k.Serial), nil
	}
	next := uint32(now.Unix())
	if k.Serial != 0 && !after(next, k.Serial) {
		next = k.Serial + 1
	}
	if next == 0 {
		next = 1 // 0 stands for none, here and in some servers
	}
	k.Serial, k.Digest = next, z.digest
	if err := i.save(k); err != nil {
		return nil, fmt.Errorf("the serial cannot be kept, so the zone is not given: %w", err)
	}
	return z.WithSerial(next), nil
}

// after compares serials as RFC 1982 §3.2 does.
func after(a, b uint32) bool { return int32(a-b) > 0 }

func (i *Identity) save(k kept) error {
	raw, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := durable.Replace(i.disk, i.path, raw, 0o600); err != nil {
		return err
	}
	i.kept = k
	return nil
}
