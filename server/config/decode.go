package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/certbound/certbound/authserver"
)

// maxFile bounds the configuration file, in bytes. Clients by the ten thousand belong
// into the store.
const maxFile = 16 << 20

// A Fault is one thing that is wrong with a configuration.
type Fault struct {
	File         string
	Line, Column int    // from 1; 0 if there is no place
	Path         string // the key: "clients[2].jwks_uri"
	Text         string // what is wrong, without a secret
	Fix          string // what to change, or empty
}

func (f Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	b.WriteString(": ")
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Text)
	if f.Fix != "" {
		b.WriteString("; " + f.Fix)
	}
	return b.String()
}

// An Error holds every fault that was found.
type Error struct{ Faults []Fault }

func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the faults as errors.
func (e *Error) Unwrap() []error {
	out := make([]error, len(e.Faults))
	for i, f := range e.Faults {
		out[i] = f
	}
	return out
}

// A File is a configuration with the places of its keys.
type File struct {
	Config
	document
	clients []*authserver.Client
}

// Load reads and checks a configuration file. Errors are of type *[Error] and hold
// all faults, or report that the file cannot be read. Files that the configuration
// names are looked at by [File.Check].
func Load(name string) (*File, error) {
	data, err := readLimited(name, maxFile)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return Parse(name, data, os.LookupEnv)
}

// Parse is [Load] for text that is read already. Values with env: are looked up with
// lookupEnv.
func Parse(name string, data []byte, lookupEnv func(string) (string, bool)) (*File, error) {
	file := &File{}
	if err := file.parse(name, data, root(), &file.Config, lookupEnv, file.rules); err != nil {
		return nil, err
	}
	return file, nil
}

// shadows reports whether a rule about path may only have failed because something
// beside it could not be read.
func (d *decoder) shadows(path string) bool {
	for _, f := range d.faults {
		scope := f.Path
		if i := strings.LastIndexByte(scope, '.'); i > 0 {
			scope = scope[:i]
		}
		if path == scope || strings.HasPrefix(path, scope+".") || strings.HasPrefix(path, scope+"[") || f.Path == "" {
			return true
		}
	}
	return false
}

func sortFaults(faults []Fault) {
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, pathError(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, pathError(err)
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("%s: larger than %d bytes", name, limit)
	}
	return data, nil
}

// pathError puts the name first: "x.yaml: no such file or directory".
func pathError(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	return err
}

// A decoder walks the document beside the tree of fields, so that every fault has its
// place and one fault does not hide the next.
type decoder struct {
	doc       *document
	lookupEnv func(string) (string, bool)
	faults    []Fault
}

func (d *decoder) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(d.doc.Dir, name)
}

func (d *decoder) fault(n ast.Node, path, fix, format string, args ...any) {
	f := Fault{File: d.doc.Name, Path: path, Text: fmt.Sprintf(format, args...), Fix: fix}
	if n != nil {
		p := placeOf(n)
		f.Line, f.Column = p.line, p.column
	}
	d.faults = append(d.faults, f)
}

func placeOf(n ast.Node) place {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		n = m.Values[0].Key
	}
	t := n.GetToken()
	if t == nil || t.Position == nil {
		return place{}
	}
	return place{t.Position.Line, t.Position.Column}
}

func (d *decoder) decode(data []byte) {
	doc, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		f := Fault{File: d.doc.Name, Line: 1, Column: 1, Text: "not valid YAML"}
		if ye, ok := errors.AsType[yaml.Error](err); ok {
			f.Text = "not valid YAML: " + quoted.ReplaceAllLiteralString(ye.GetMessage(), "…") // it may be a secret
			f.Fix = "look here and in the lines above for a key without a colon and a wrong indentation"
			if strings.Contains(ye.GetMessage(), `'\u0009'`) {
				f.Text, f.Fix = "not valid YAML: a tab", "indent with spaces"
			}
			if t := ye.GetToken(); t != nil && t.Position != nil {
				f.Line, f.Column = t.Position.Line, t.Position.Column
			}
		}
		d.faults = append(d.faults, f)
		return
	}
	var body ast.Node
	for _, part := range doc.Docs {
		if part.Body == nil {
			continue
		}
		if body != nil {
			d.fault(part.Body, "", "keep one", "there is more than one document")
			return
		}
		body = part.Body
	}
	if body == nil {
		body = &ast.NullNode{}
	}
	d.section(body, "", d.doc.top, d.doc.value)
}

var quoted = regexp.MustCompile(`"[^"]*"?`)

// entries returns the pairs of a mapping.
func entries(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	case *ast.NullNode:
		return nil, true
	}
	return nil, false
}

func (d *decoder) section(n ast.Node, path string, f *field, v reflect.Value) {
	pairs, ok := entries(n)
	if !ok {
		d.fault(n, path, "", "expected a section with keys, found %s", describe(n))
		return
	}
	seen := make(map[string]int)
	for _, pair := range pairs {
		key, ok := scalarText(pair.Key)
		if !ok {
			d.fault(pair.Key, path, "write the value out", "this kind of key is not used here")
			continue
		}
		at := join(path, key)
		if line, twice := seen[key]; twice {
			d.fault(pair.Key, at, "", "stands twice; the first is in line %d", line)
			continue
		}
		seen[key] = placeOf(pair.Key).line
		c := f.child(key)
		if c == nil {
			d.fault(pair.Key, at, suggestion(d.doc.top, f, key), "unknown key")
			continue
		}
		d.doc.places[at] = placeOf(pair.Key)
		d.value(pair.Value, at, c, v.Field(c.index))
	}
	for _, c := range f.children {
		if _, ok := seen[c.name]; ok {
			continue
		}
		at := join(path, c.name)
		switch {
		case c.required:
			d.fault(n, at, "", "is missing")
		case c.hasDef:
			d.setDefault(at, c, v.Field(c.index))
		case c.kind == kindSection:
			d.section(&ast.NullNode{}, at, c, v.Field(c.index))
		}
	}
}

func (d *decoder) setDefault(path string, c *field, v reflect.Value) {
	d.doc.origins[path] = "default"
	if c.kind == kindList {
		for _, text := range splitList(c.def) {
			e := reflect.New(c.elem.typ).Elem()
			if err := setScalar(c.elem, e, text); err != nil {
				panic("config: default of " + path + ": " + err.Error())
			}
			v.Set(reflect.Append(v, e))
		}
		return
	}
	if err := setScalar(c, v, c.def); err != nil {
		panic("config: default of " + path + ": " + err.Error())
	}
}

func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (d *decoder) value(n ast.Node, path string, f *field, v reflect.Value) {
	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		d.fault(n, path, "write the value out", "anchors and aliases of YAML are not used here")
		return
	case *ast.TagNode:
		d.fault(n, path, "for values from elsewhere write env:NAME or file:PATH", "tags of YAML are not used here")
		return
	case *ast.NullNode:
		// A key whose values are all commented out.
		switch {
		case f.required:
			d.fault(n, path, "", "has no value")
		case f.hasDef:
			d.setDefault(path, f, v)
		case f.kind == kindSection:
			d.section(n, path, f, v)
		}
		return
	}
	switch f.kind {
	case kindSection:
		d.section(n, path, f, v)
	case kindList:
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			d.fault(n, path, "put [ and ] around it", "expected a list, found %s", describe(n))
			return
		}
		if f.required && len(seq.Values) == 0 {
			d.fault(n, path, "", "the list is empty")
		}
		v.Set(reflect.MakeSlice(f.typ, len(seq.Values), len(seq.Values)))
		for i, item := range seq.Values {
			at := fmt.Sprintf("%s[%d]", path, i)
			d.doc.places[at] = placeOf(item)
			if _, null := item.(*ast.NullNode); null {
				d.fault(item, at, "", "has no value")
				continue
			}
			d.value(item, at, f.elem, v.Index(i))
		}
	case kindJSON:
		d.json(n, path, v)
	default:
		d.scalar(n, path, f, v)
	}
}

func (d *decoder) scalar(n ast.Node, path string, f *field, v reflect.Value) {
	text, ok := scalarText(n)
	if !ok {
		d.fault(n, path, "", "expected %s, found %s", article(f.typeText()), describe(n))
		return
	}
	if isText(n) {
		value, origin, err := d.resolve(text)
		if err != nil {
			d.fault(n, path, "", "%s", err)
			return
		}
		text = value
		if origin != "" {
			d.doc.origins[path] = origin
		}
	} else if wanted := map[ast.NodeType]kind{ast.IntegerType: kindInt, ast.BoolType: kindBool}[n.Type()]; wanted != f.kind {
		fix := ""
		switch f.kind {
		case kindString, kindPath, kindSecret:
			fix = "put it in quotes"
		case kindDuration:
			fix = "add a unit, such as 90s, 5m, 24h or 90d"
		}
		found := describe(n)
		if f.kind == kindSecret {
			found = "a number, or another word that YAML knows" // not which
		}
		d.fault(n, path, fix, "expected %s, found %s", article(f.typeText()), found)
		return
	}
	if err := setScalar(f, v, text); err != nil {
		d.fault(n, path, "", "%s", err)
	}
}

func article(s string) string {
	switch s {
	case "path", "secret", "duration", "number", "section", "JSON object":
		return "a " + s
	}
	return s
}

// setScalar sets v from text. Errors hold no value of a secret.
func setScalar(f *field, v reflect.Value, text string) error {
	switch f.kind {
	case kindInt:
		i, err := strconv.Atoi(text)
		switch {
		case err != nil:
			return errors.New("expected a number")
		case i < 0:
			return errors.New("is negative")
		}
		v.SetInt(int64(i))
	case kindBool:
		switch text {
		case "true", "false":
			v.SetBool(text == "true")
		default:
			return errors.New("expected true or false")
		}
	case kindDuration:
		t, err := ParseDuration(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(t))
	default:
		if len(f.enum) > 0 && !slices.Contains(f.enum, text) {
			err := fmt.Errorf("%q is not one of %s", text, strings.Join(f.enum, ", "))
			if near := nearest(text, f.enum); near != "" {
				err = fmt.Errorf("%q is not known; did you mean %s?", text, near)
			}
			return err
		}
		v.SetString(text)
	}
	return nil
}

// json turns a value of YAML, or the JSON text of a file or variable, into JSON.
func (d *decoder) json(n ast.Node, path string, v reflect.Value) {
	var data []byte
	if text, ok := scalarText(n); ok && isText(n) {
		value, origin, err := d.resolve(text)
		if err != nil {
			d.fault(n, path, "", "%s", err)
			return
		}
		if origin != "" {
			d.doc.origins[path] = origin
		}
		data = []byte(value)
	} else {
		value, err := jsonValue(n)
		if err == nil {
			data, err = json.Marshal(value)
		}
		if err != nil {
			d.fault(n, path, "", "%s", err)
			return
		}
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) != nil || object == nil {
		d.fault(n, path, "", "expected a JSON object")
		return
	}
	v.SetBytes(data)
}

func jsonValue(n ast.Node) (any, error) {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		pairs, _ := entries(n)
		m := make(map[string]any, len(pairs))
		for _, p := range pairs {
			key, ok := scalarText(p.Key)
			if !ok {
				return nil, errors.New("this kind of key is not used here")
			}
			if _, twice := m[key]; twice {
				return nil, fmt.Errorf("%s stands twice", key)
			}
			v, err := jsonValue(p.Value)
			if err != nil {
				return nil, err
			}
			m[key] = v
		}
		return m, nil
	case *ast.SequenceNode:
		list := make([]any, len(n.Values))
		for i, e := range n.Values {
			v, err := jsonValue(e)
			if err != nil {
				return nil, err
			}
			list[i] = v
		}
		return list, nil
	case *ast.NullNode:
		return nil, nil
	case *ast.BoolNode:
		return n.Value, nil
	case *ast.IntegerNode:
		return n.Value, nil
	case *ast.FloatNode:
		return n.Value, nil
	}
	if text, ok := scalarText(n); ok {
		return text, nil
	}
	return nil, fmt.Errorf("%s is not used here", describe(n))
}

func isText(n ast.Node) bool {
	return n.Type() == ast.StringType || n.Type() == ast.LiteralType
}

func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	case *ast.MappingKeyNode:
		return scalarText(n.Value)
	}
	return "", false
}

// describe names a value without showing text, which may be a secret at the wrong
// place.
func describe(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a section with keys"
	case ast.SequenceType:
		return "a list"
	case ast.IntegerType, ast.FloatType, ast.BoolType:
		return n.GetToken().Value
	case ast.StringType, ast.LiteralType:
		return "text"
	case ast.NullType:
		return "nothing"
	}
	return "something else"
}

// suggestion looks for the key that was meant: among its neighbours, or at its place.
func suggestion(top, f *field, key string) string {
	names := make([]string, len(f.children))
	for i, c := range f.children {
		names[i] = c.name
	}
	if near := nearest(key, names); near != "" {
		return "did you mean " + near + "?"
	}
	found := map[string]bool{}
	places(top, "", func(path string, c *field) {
		if c.name == key {
			found[path] = true
		}
	})
	if len(found) > 0 {
		// The places that are least deep first: those are meant most often.
		paths := slices.SortedFunc(maps.Keys(found), func(a, b string) int {
			return cmp.Or(strings.Count(a, ".")-strings.Count(b, "."), strings.Compare(a, b))
		})
		return "it belongs to " + strings.Join(paths, " or ")
	}
	return "known are " + strings.Join(names, ", ")
}

// nearest returns the word that text is a slip of the pen for, or nothing.
func nearest(text string, words []string) string {
	best, least := "", 3
	for _, w := range words {
		if n := Distance(text, w); n < least && n < len(text) {
			best, least = w, n
		}
	}
	return best
}

// places calls visit for every field below f.
func places(f *field, path string, visit func(path string, c *field)) {
	for _, c := range f.children {
		at := join(path, c.name)
		visit(at, c)
		switch c.kind {
		case kindSection:
			places(c, at, visit)
		case kindList:
			places(c.elem, at+"[]", visit)
		}
	}
}

// Distance is the number of letters to insert, delete, replace or exchange to make b
// out of a: for suggestions.
func Distance(a, b string) int {
	prev2, prev := []int(nil), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev = prev, row
	}
	return prev[len(b)]
}
