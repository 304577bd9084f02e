package signing

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"cordon/durable"
)

// state is what a client must not forget: the roots after the pinned one, the
// newest timestamp and snapshot that verified. Each is one file, replaced whole
// and synced, and what is in memory follows what is on disk, never the other way
// round:
//
//	DIR/root/N.root.json
//	DIR/timestamp.json
//	DIR/snapshot.json
//	DIR/target          the last target fetched, until it is confirmed, so that
//	                    one that its owner refuses is not fetched at each poll
//
// A file that was damaged there is dropped: an empty timestamp.json must not stop
// updates for ever. Roots are then held to the highest number seen.
type state struct {
	disk durable.Disk
	dir  string
	log  *slog.Logger

	chain     [][]byte // roots after the pinned one, in order of version
	newest    []byte   // the last of chain, or the pinned root
	rootFloor int64    // highest version of a root that was ever in dir
	timestamp []byte
	snapshot  []byte
}

var rootName = regexp.MustCompile(`^([1-9][0-9]{0,17})\.root\.json$`)

// loadState reads and verifies, from the pinned root on, what was kept; damaged
// files are dropped, and said so in the log.
func loadState(d durable.Disk, dir string, pinned []byte, log *slog.Logger) (*state, error) {
	s := &state{disk: d, dir: dir, log: log, newest: pinned}
	t, err := s.trust(time.Time{})
	if err != nil {
		return nil, err
	}
	if err := durable.MakeDir(d, filepath.Join(dir, "root"), 0o700); err != nil {
		return nil, err
	}
	for _, sub := range []string{dir, filepath.Join(dir, "root")} {
		if err := durable.RemoveTemp(d, sub); err != nil {
			return nil, err
		}
	}
	if err := s.loadRoots(t); err != nil {
		return nil, err
	}
	if s.timestamp, err = s.read("timestamp.json"); err != nil {
		return nil, err
	}
	if s.timestamp != nil {
		md, err := parseTimestamp(s.timestamp)
		if err == nil {
			err = t.set.Root.VerifyDelegate(RoleTimestamp, md)
		}
		if err != nil {
			if err := s.dropTimestamp(err); err != nil {
				return nil, err
			}
		}
	}
	if s.snapshot, err = s.read("snapshot.json"); err != nil {
		return nil, err
	}
	if s.snapshot != nil {
		md, err := parseSnapshot(s.snapshot)
		if err == nil {
			err = t.set.Root.VerifyDelegate(RoleSnapshot, md)
		}
		if err != nil {
			if err := s.dropSnapshot(err); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (s *state) loadRoots(t *trust) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "root"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if m := rootName.FindStringSubmatch(e.Name()); m != nil {
			version, err := strconv.ParseInt(m[1], 10, 64)
			if err != nil {
				return err
			}
			s.rootFloor = max(s.rootFloor, version)
		}
	}
	for t.rootVersion() < s.rootFloor {
		name := s.rootFile(t.rootVersion() + 1)
		raw, err := s.read(name)
		if err != nil {
			return err
		}
		if raw == nil {
			err = errors.New("it is not there")
		} else {
			err = t.root(raw)
		}
		if err != nil {
			// The file stays until the source has given it anew: its number is the floor.
			s.log.Warn("a root in the client's folder is damaged; it will be fetched again", "file", filepath.Join(s.dir, name), "error", err)
			return nil
		}
		s.chain, s.newest = append(s.chain, raw), raw
	}
	return nil
}

// trust starts at the newest root held, whose chain from the pinned one was
// verified when it was taken. A server that withholds roots takes nobody back.
func (s *state) trust(now time.Time) (*trust, error) { return newTrust(s.newest, now) }

func (s *state) roots() [][]byte {
	out := make([][]byte, len(s.chain))
	for i, raw := range s.chain {
		out[i] = bytes.Clone(raw)
	}
	return out
}

// addRoot keeps a root that verified as the next of the chain.
func (s *state) addRoot(version int64, raw []byte) error {
	if err := s.write(s.rootFile(version), raw); err != nil {
		return err
	}
	s.chain, s.newest = append(s.chain, raw), raw
	s.rootFloor = max(s.rootFloor, version)
	return nil
}

func (s *state) setTimestamp(raw []byte) error {
	if err := s.write("timestamp.json", raw); err != nil {
		return err
	}
	s.timestamp = raw
	return nil
}

func (s *state) setSnapshot(raw []byte) error {
	if err := s.write("snapshot.json", raw); err != nil {
		return err
	}
	s.snapshot = raw
	return nil
}

func (s *state) dropTimestamp(why error) error {
	s.log.Warn("the timestamp in the client's folder does not verify and is dropped", "dir", s.dir, "error", why)
	if err := durable.Remove(s.disk, filepath.Join(s.dir, "timestamp.json")); err != nil {
		return err
	}
	s.timestamp = nil
	return nil
}

func (s *state) dropSnapshot(why error) error {
	s.log.Warn("the snapshot in the client's folder does not verify and is dropped", "dir", s.dir, "error", why)
	if err := durable.Remove(s.disk, filepath.Join(s.dir, "snapshot.json")); err != nil {
		return err
	}
	s.snapshot = nil
	return nil
}

// adopt takes over from a confirmed publication, which has verified, what goes
// beyond what is held, and lets go of the kept target if it is that one.
func (s *state) adopt(a *Accepted) error {
	t, err := s.trust(time.Time{})
	if err != nil {
		return err
	}
	for _, raw := range a.Roots {
		root, err := parseRoot(raw)
		if err != nil {
			return err
		}
		if root.Signed.Version != t.rootVersion()+1 {
			continue
		}
		if err := t.root(raw); err != nil {
			return err
		}
		if err := s.addRoot(t.rootVersion(), raw); err != nil {
			return err
		}
	}
	if md, err := parseTimestamp(a.Timestamp); err != nil {
		return err
	} else if t.set.Root.VerifyDelegate(RoleTimestamp, md) == nil && md.Signed.Version > s.timestampVersion() {
		if err := s.setTimestamp(bytes.Clone(a.Timestamp)); err != nil {
			return err
		}
	}
	if md, err := parseSnapshot(a.Snapshot); err != nil {
		return err
	} else if t.set.Root.VerifyDelegate(RoleSnapshot, md) == nil && md.Signed.Version > s.snapshotVersion() {
		if err := s.setSnapshot(bytes.Clone(a.Snapshot)); err != nil {
			return err
		}
	}
	if targets, err := parseTargets(a.Targets); err != nil {
		return err
	} else if info := targets.Signed.Targets[a.Name]; info != nil && s.keptTarget(info) != nil {
		return durable.Remove(s.disk, filepath.Join(s.dir, "target"))
	}
	return nil
}

func (s *state) timestampVersion() int64 {
	md, err := parseTimestamp(s.timestamp)
	if err != nil {
		return 0 // none is held
	}
	return md.Signed.Version
}

func (s *state) snapshotVersion() int64 {
	md, err := parseSnapshot(s.snapshot)
	if err != nil {
		return 0 // none is held
	}
	return md.Signed.Version
}

// keptTarget gives the target of the last Update if it is the one asked for.
func (s *state) keptTarget(info *metadata.TargetFiles) []byte {
	path := filepath.Join(s.dir, "target")
	if fi, err := os.Stat(path); err != nil || fi.Size() != info.Length {
		return nil
	}
	raw, err := os.ReadFile(path)
	if err != nil || info.VerifyLengthHashes(raw) != nil {
		return nil
	}
	return raw
}

func (s *state) keepTarget(raw []byte) error { return s.write("target", raw) }

// read gives nil for a file that is not there.
func (s *state) read(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := readAll(f, name, maxMetadata)
	if errors.Is(err, ErrTooLarge) { // ours are not: damaged, and dropped as such
		return []byte{}, nil
	}
	if err == nil && raw == nil {
		raw = []byte{}
	}
	return raw, err
}

func (s *state) write(name string, raw []byte) error {
	return durable.Replace(s.disk, filepath.Join(s.dir, name), raw, 0o600)
}

func (s *state) rootFile(version int64) string {
	return filepath.Join("root", fmt.Sprintf("%d.root.json", version))
}
