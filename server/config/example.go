package config

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// WriteExample writes the commented example: what has to be set is set, everything
// else stands there as a comment with its default.
func WriteExample(w io.Writer) error {
	return writeExample(w, root(), "Settings of 'certbound serve'. Check them with 'certbound config check FILE'.", "certbound.schema.json")
}

// WriteGatewayExample is WriteExample for the file of the gateway.
func WriteGatewayExample(w io.Writer) error {
	return writeExample(w, gatewayRoot(), "Settings of 'certbound gateway'. Check them with 'certbound config check --gateway FILE'.", "gateway.schema.json")
}

func writeExample(w io.Writer, root *field, what, schema string) error {
	e := &exampleWriter{}
	e.comment("", what+` What stands without # in front
has to be set; the rest shows its default. Unknown keys are errors.

Any value can stand elsewhere: env:NAME takes it from the environment, file:PATH from a file, without its last line end. text: in front of a value that begins with one of these words takes it as it is. Relative paths count from the folder of this file.`)
	e.out.WriteByte('\n')
	e.comment("", "yaml-language-server: $schema="+schema)
	for _, f := range root.children {
		e.out.WriteByte('\n')
		e.field("", f)
	}
	_, err := io.WriteString(w, e.out.String())
	return err
}

type exampleWriter struct{ out strings.Builder }

func (e *exampleWriter) comment(indent, text string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			e.out.WriteString(indent + "#\n")
		}
		for _, line := range wrap(paragraph, 78-len(indent)) {
			e.out.WriteString(indent + "# " + line + "\n")
		}
	}
}

func (e *exampleWriter) field(indent string, f *field) {
	doc := f.doc
	if len(f.enum) > 0 {
		doc += " One of: " + strings.Join(f.enum, ", ") + "."
		if f.kind == kindList {
			doc = strings.Replace(doc, " One of: ", " Any of: ", 1)
		}
	}
	e.comment(indent, doc)
	switch {
	case f.kind == kindSection:
		e.out.WriteString(indent + f.name + ":\n")
		for _, c := range f.children {
			e.field(indent+"  ", c)
		}
	case f.kind == kindList && f.elem.kind == kindSection:
		e.out.WriteString(indent + f.name + ":\n")
		item := &exampleWriter{}
		for _, c := range f.elem.children {
			item.field(indent+"    ", c)
		}
		// The first key that is set carries the dash.
		lines := strings.SplitAfter(item.out.String(), "\n")
		for i, line := range lines {
			if rest := strings.TrimPrefix(line, indent+"    "); rest != line && !strings.HasPrefix(rest, "#") {
				lines[i] = indent + "  - " + rest
				break
			}
		}
		e.out.WriteString(strings.Join(lines, ""))
	case f.example != "":
		e.out.WriteString(indent + f.name + ": " + f.literal(f.example) + "\n")
	default:
		e.out.WriteString(indent + "# " + f.name + ": " + f.literal(f.def) + "\n")
	}
}

// literal writes a default or an example, which is text in the tags, as YAML.
func (f *field) literal(text string) string {
	switch {
	case f.kind == kindList:
		parts := splitList(text)
		for i, p := range parts {
			parts[i] = quoteIfNeeded(p)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case f.kind == kindJSON:
		return `{"keys": []}`
	case f.kind == kindSecret && text == "":
		return "env:CLIENT_SECRET"
	case f.kind == kindDuration && text == "":
		return "0s"
	case f.kind == kindInt || f.kind == kindBool || f.kind == kindDuration:
		return text
	}
	return quoteIfNeeded(text)
}

// quoteIfNeeded returns YAML that reads back as the text s, also in a flow list.
func quoteIfNeeded(s string) string {
	plain := s != "" && strings.Trim(s, "0123456789.-+_") != "" &&
		!strings.ContainsAny(s, "\"'\\#{}[],&*!|>%@`\n\t") &&
		!strings.Contains(s, ": ") && !strings.HasSuffix(s, ":") && !strings.HasPrefix(s, ":") &&
		!strings.HasPrefix(s, "-") && !strings.HasPrefix(s, "?") && !strings.HasPrefix(s, "=") &&
		strings.TrimSpace(s) == s
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "~", ".inf", ".nan":
		plain = false
	}
	number := strings.ReplaceAll(s, "_", "")
	if _, err := strconv.ParseInt(number, 0, 64); err == nil {
		plain = false
	} else if _, err := strconv.ParseFloat(number, 64); err == nil {
		plain = false
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7f {
			plain = false
		}
	}
	if plain {
		return s
	}
	return fmt.Sprintf("%q", s)
}

func wrap(text string, width int) []string {
	var lines []string
	var line string
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
