package rpz

import (
	"io"
	"io/fs"

	"cordon/durable"
)

// FileMode is who may read the file of a zone: its owner and its group.
const FileMode fs.FileMode = 0o640

// WriteFile writes a zone into a file, whole or not at all: whoever reads it finds the
// zone before or this one. Whoever may read it has the list.
func (z *Zone) WriteFile(d durable.Disk, path string) error {
	return durable.ReplaceBy(d, path, FileMode, func(w io.Writer) error { _, err := z.WriteTo(w); return err })
}
