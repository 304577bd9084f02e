package signing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Source gives the files of a publication by their path below its base
// ("metadata/timestamp.json", "targets/3f…a1.list"). What it gives need not be
// trusted: the client verifies all of it.
type Source interface {
	// Fetch returns the whole file. [fs.ErrNotExist] where there is none;
	// [ErrTooLarge], before more than max bytes were read, where the file is
	// longer.
	Fetch(ctx context.Context, path string, max int64) ([]byte, error)
}

// NewFolderSource reads a publication from a folder: one that is shared, or
// carried across an air gap. Links that lead out of the folder are not followed.
func NewFolderSource(dir string) Source { return folderSource{dir: dir} }

type folderSource struct{ dir string }

func (s folderSource) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkPath(path); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		// The folder itself is not there: a mount that is missing, not a file.
		return nil, fmt.Errorf("open folder %s: %w: %w", s.dir, ErrSource, hideNotExist(err))
	}
	defer root.Close()
	// Without O_NONBLOCK a named pipe in the place of a file would block us here.
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() > max {
		return nil, fmt.Errorf("%s: %w: %d bytes, at most %d", path, ErrTooLarge, info.Size(), max)
	}
	return readAll(f, path, max)
}

// readAll reads to the end, but no more than one byte past max.
func readAll(r io.Reader, path string, max int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, max+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", path, ErrTooLarge, max)
	}
	return b, nil
}

// checkPath refuses a path that leaves the base, or that would have to be
// escaped in a URL.
func checkPath(path string) error {
	if !fs.ValidPath(path) || path == "." {
		return fmt.Errorf("path %q does not stay below the publication", path)
	}
	for _, c := range []byte(path) {
		plain := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' || c == '/'
		if !plain {
			return fmt.Errorf("path %q: %q has no place in it", path, c)
		}
	}
	return nil
}

// hideNotExist keeps an error's text, and makes it no fs.ErrNotExist.
func hideNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New(err.Error())
	}
	return err
}
