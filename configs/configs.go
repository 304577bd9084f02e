// Package configs reads the programs' configuration files and carries one
// commented, complete example for each program.
//
// The language is YAML 1.2, less everything by which a file can mean something
// else than it seems to: no anchors and aliases, no merge keys, no tags, one
// document, no key twice, no key that the program does not know, no value that
// has to be converted to fit (012 is not 10, 1.5 is not 1, yes is not true).
package configs

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxSize is how long a configuration file may be, in bytes.
const MaxSize = 1 << 20

// Examples holds the example files of this folder, one for each program, by
// name ("cordon-stoppage.yaml").
//
//go:embed *.yaml
var Examples embed.FS

// Load reads the YAML file at path into v, a pointer to a struct: unknown keys,
// duplicates and values of the wrong type are errors that name file, line,
// column, value and remedy, all that were found at once. Keys that the file
// leaves out keep what v holds, so that defaults are set before. Durations
// (time.Duration) are written "10s", sizes are whole numbers, and a type with
// UnmarshalText takes a string. Relative paths stay as written; a program
// resolves them against the folder of its configuration file (see Resolve).
func Load(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data, v)
}

// Parse is Load for bytes at hand; name stands for the file in errors.
func Parse(name string, data []byte, v any) error {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() || target.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("%s: cannot be read into %T, only into a pointer to a struct", name, v)
	}
	if err := bound(data); err != nil {
		return fmt.Errorf("%s:%w", name, err)
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return libraryError(name, err)
	}
	root, err := onlyDocument(name, file)
	if err != nil {
		return err
	}

	// goccy/go-yaml converts between scalar types where it can; check compares
	// the document with the type before, so that the decoder has nothing left
	// to convert.
	c := checker{file: name}
	c.value(root, target.Elem().Type(), "", 0)
	if err := c.err(); err != nil {
		return err
	}
	if err := yaml.NodeToValue(root, v, yaml.Strict()); err != nil {
		return libraryError(name, err)
	}
	return nil
}

// Dir is the folder of the configuration file at path, the base of the relative
// paths in it.
func Dir(path string) string { return filepath.Dir(path) }

// Resolve gives the path p of a configuration file whose folder is base:
// absolute paths and the empty path (a setting left out) as they are, others
// below base.
func Resolve(base, p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(base, p)
}

// onlyDocument gives the body of the file's one document.
func onlyDocument(name string, file *ast.File) (ast.Node, error) {
	if len(file.Docs) > 1 {
		line := 0
		if start := file.Docs[1].Start; start != nil {
			line = start.Position.Line
		}
		return nil, fmt.Errorf("%s:%d: a second document starts here; a configuration is one document, remove the line \"---\"", name, line)
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil || file.Docs[0].Body.Type() == ast.CommentType {
		return nil, fmt.Errorf("%s: no setting in the file; start from the example of the program", name)
	}
	return file.Docs[0].Body, nil
}

// libraryError puts an error of go-yaml into the form of this package's own:
// place first, then what is wrong, then the lines around it.
func libraryError(name string, err error) error {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	p := at.GetToken().Position
	return fmt.Errorf("%s:%d:%d: %s%s", name, p.Line, p.Column, at.GetMessage(), snippet(at.GetToken()))
}
