package configs

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/printer"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a file's shape. The parser takes time that grows with the square of
// the nesting, and nothing that a person writes comes near these.
const (
	maxLine   = 8 << 10 // bytes of a line; an age recipient has 2,000
	maxDepth  = 64      // settings within settings
	maxErrors = 10      // more are not shown
)

// bound refuses, before anything is parsed, a file whose size or nesting would
// keep the parser busy. The brackets are counted without regard to quotes: an
// upper bound is enough.
func bound(data []byte) error {
	if len(data) > MaxSize {
		return fmt.Errorf(" longer than %d bytes; this cannot be a configuration file", MaxSize)
	}
	depth, n := 0, 0
	for line := range bytes.Lines(data) {
		n++
		if len(line) > maxLine {
			return fmt.Errorf("%d: line longer than %d bytes; fold it", n, maxLine)
		}
		for _, b := range line {
			switch b {
			case '[', '{':
				if depth++; depth > maxDepth {
					return fmt.Errorf("%d: brackets nested more than %d deep; close them", n, maxDepth)
				}
			case ']', '}':
				depth = max(0, depth-1)
			}
		}
	}
	return nil
}

// checker compares a document with the type that it will be decoded into.
type checker struct {
	file string
	errs []error
}

func (c *checker) err() error {
	if len(c.errs) > maxErrors {
		c.errs = append(c.errs[:maxErrors], fmt.Errorf("%s: and %d more", c.file, len(c.errs)-maxErrors))
	}
	return errors.Join(c.errs...)
}

// fail notes one error at a node; key is the path of the setting, "" at the
// top.
func (c *checker) fail(n ast.Node, key, format string, args ...any) {
	tk := n.GetToken()
	where := c.file
	if tk != nil && tk.Position != nil {
		where = fmt.Sprintf("%s:%d:%d", c.file, tk.Position.Line, tk.Position.Column)
	}
	if key != "" {
		where += ": " + key
	}
	c.errs = append(c.errs, fmt.Errorf("%s: %s%s", where, fmt.Sprintf(format, args...), snippet(tk)))
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()

	// Types that read YAML themselves are not looked into.
	ownReaders = []reflect.Type{
		reflect.TypeFor[yaml.BytesUnmarshaler](), reflect.TypeFor[yaml.BytesUnmarshalerContext](),
		reflect.TypeFor[yaml.InterfaceUnmarshaler](), reflect.TypeFor[yaml.InterfaceUnmarshalerContext](),
		reflect.TypeFor[yaml.NodeUnmarshaler](), reflect.TypeFor[yaml.NodeUnmarshalerContext](),
	}

	decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
)

// value checks one node against the type it is for.
func (c *checker) value(n ast.Node, t reflect.Type, key string, depth int) {
	if depth > maxDepth {
		c.fail(n, key, "settings nested more than %d deep", maxDepth)
		return
	}
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		c.fail(n, key, "anchors (&), aliases (*) and tags (!) are not read here; write the value out")
		return
	case *ast.NullNode:
		c.fail(n, key, "has no value; give it one, or remove the key to take the default")
		return
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	pointer := reflect.PointerTo(t)
	if slices.ContainsFunc(ownReaders, pointer.Implements) {
		return
	}
	switch {
	case t == durationType:
		c.duration(n, key)
	case pointer.Implements(textType):
		c.text(n, t, key)
	default:
		c.kind(n, t, key, depth)
	}
}

// kind checks the types that stand for themselves.
func (c *checker) kind(n ast.Node, t reflect.Type, key string, depth int) {
	switch t.Kind() {
	case reflect.Struct:
		c.structure(n, t, key, depth)
	case reflect.Map:
		for _, pair := range c.pairs(n, key) {
			if name, ok := c.keyName(pair, key); ok {
				c.value(pair.Value, t.Elem(), join(key, name), depth+1)
			}
		}
	case reflect.Slice, reflect.Array:
		c.sequence(n, t, key, depth)
	case reflect.String:
		c.string(n, key)
	case reflect.Bool:
		if _, ok := n.(*ast.BoolNode); !ok {
			c.fail(n, key, "%s is not true or false", shown(n))
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		c.integer(n, t, key)
	case reflect.Float32, reflect.Float64:
		c.float(n, key)
	case reflect.Interface:
		c.anything(n, key, depth)
	default:
		c.fail(n, key, "cannot be set in a file")
	}
}

func (c *checker) string(n ast.Node, key string) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
		c.fail(n, key, "takes one text, not %s", shown(n))
	default:
		c.fail(n, key, "%s is not a text; put it between quotes: %q", shown(n), n.GetToken().Value)
	}
	return "", false
}

func (c *checker) duration(n ast.Node, key string) {
	s, ok := n.(*ast.StringNode)
	if !ok {
		c.fail(n, key, `%s is not a duration; write a number with its unit, such as "10s", "5m" or "24h"`, shown(n))
		return
	}
	if _, err := time.ParseDuration(s.Value); err != nil {
		c.fail(n, key, `%q is not a duration; write a number with its unit, such as "10s", "5m" or "24h"`, s.Value)
	}
}

// text checks a type with a text form of its own (an address, a prefix) by
// reading it.
func (c *checker) text(n ast.Node, t reflect.Type, key string) {
	s, ok := c.string(n, key)
	if !ok {
		return
	}
	if err := reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
		c.fail(n, key, "%q: %v", s, err)
	}
}

func (c *checker) integer(n ast.Node, t reflect.Type, key string) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		c.fail(n, key, "%s is not a whole number", shown(n))
		return
	}
	text := i.Token.Value
	if !decimal.MatchString(text) {
		c.fail(n, key, "%s is not a plain whole number; write it in decimal digits without sign, point or leading zero", text)
		return
	}
	var err error
	low, high := "0", ""
	if t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64 {
		high = strconv.FormatUint(math.MaxUint64>>(64-t.Bits()), 10)
		_, err = strconv.ParseUint(text, 10, t.Bits())
	} else {
		low = strconv.FormatInt(-1<<(t.Bits()-1), 10)
		high = strconv.FormatUint(math.MaxInt64>>(64-t.Bits()), 10)
		_, err = strconv.ParseInt(text, 10, t.Bits())
	}
	if err != nil {
		c.fail(n, key, "%s is out of range; give a number from %s to %s", text, low, high)
	}
}

func (c *checker) float(n ast.Node, key string) {
	switch n.(type) {
	case *ast.FloatNode:
	case *ast.IntegerNode:
		if !decimal.MatchString(n.GetToken().Value) {
			c.fail(n, key, "%s is not a plain number; write it in decimal digits", n.GetToken().Value)
		}
	default:
		c.fail(n, key, "%s is not a number", shown(n))
	}
}

func (c *checker) sequence(n ast.Node, t reflect.Type, key string, depth int) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		c.fail(n, key, "takes a list, not %s; write each item on a line of its own after \"- \", or [between, brackets]", shown(n))
		return
	}
	if t.Kind() == reflect.Array && len(s.Values) > t.Len() {
		c.fail(n, key, "has %d items; at most %d are read", len(s.Values), t.Len())
	}
	for i, item := range s.Values {
		c.value(item, t.Elem(), fmt.Sprintf("%s[%d]", key, i), depth+1)
	}
}

// anything refuses in an untyped value what is refused everywhere.
func (c *checker) anything(n ast.Node, key string, depth int) {
	anyType := reflect.TypeFor[any]()
	switch v := n.(type) {
	case *ast.SequenceNode:
		for i, item := range v.Values {
			c.value(item, anyType, fmt.Sprintf("%s[%d]", key, i), depth+1)
		}
	case *ast.MappingNode, *ast.MappingValueNode:
		for _, pair := range c.pairs(n, key) {
			if name, ok := c.keyName(pair, key); ok {
				c.value(pair.Value, anyType, join(key, name), depth+1)
			}
		}
	}
}

func (c *checker) structure(n ast.Node, t reflect.Type, key string, depth int) {
	fields := map[string]reflect.Type{}
	fieldsOf(t, fields)
	for _, pair := range c.pairs(n, key) {
		name, ok := c.keyName(pair, key)
		if !ok {
			continue
		}
		field, known := fields[name]
		if !known {
			c.fail(pair.Key, key, "unknown key %q; known here: %s", name, listed(fields))
			continue
		}
		c.value(pair.Value, field, join(key, name), depth+1)
	}
}

// fieldsOf gathers the keys of a struct as go-yaml names them: by the yaml tag,
// else the field's name in lower case; fields of inline structs stand with
// their parent's.
func fieldsOf(t reflect.Type, fields map[string]reflect.Type) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if slices.Contains(strings.Split(options, ","), "inline") {
			inline := f.Type
			if inline.Kind() == reflect.Pointer {
				inline = inline.Elem()
			}
			fieldsOf(inline, fields)
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		fields[name] = f.Type
	}
}

// pairs gives the keys and values of a mapping; a mapping of one pair is a node
// of a type of its own in go-yaml.
func (c *checker) pairs(n ast.Node, key string) []*ast.MappingValueNode {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}
	}
	c.fail(n, key, "takes settings of its own (key: value), not %s", shown(n))
	return nil
}

func (c *checker) keyName(pair *ast.MappingValueNode, key string) (string, bool) {
	s, ok := pair.Key.(*ast.StringNode)
	if !ok {
		c.fail(pair.Key, key, "%s is not a plain key; merge keys (<<) and keys other than text are not read here", pair.Key.GetToken().Value)
		return "", false
	}
	return s.Value, true
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

func listed(fields map[string]reflect.Type) string {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	sort.Strings(names)
	return strings.Join(names, ", ")
}

// shown is a value as an error names it.
func shown(n ast.Node) string {
	switch n.(type) {
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "settings"
	}
	if tk := n.GetToken(); tk != nil && n.Type() != ast.StringType {
		return tk.Value
	} else if tk != nil {
		return strconv.Quote(tk.Value)
	}
	return n.String()
}

// snippet shows the lines around a token, under the line of the error.
func snippet(tk *token.Token) string {
	if tk == nil {
		return ""
	}
	var p printer.Printer
	return "\n" + strings.TrimRight(p.PrintErrorToken(tk, false), "\n")
}
