package config

import (
	"io"
	"strings"
)

// WriteDocs writes the reference of all keys as Markdown: docs/configuration.md.
func WriteDocs(w io.Writer) error {
	return writeDocs(w, root(), "Configuration", "config.go", "serve", "")
}

// WriteGatewayDocs writes that of the file of the gateway: docs/gateway-configuration.md.
func WriteGatewayDocs(w io.Writer) error {
	return writeDocs(w, gatewayRoot(), "Configuration of the gateway", "gateway.go", "gateway", " --gateway")
}

func writeDocs(w io.Writer, root *field, title, source, command, flag string) error {
	var b strings.Builder
	b.WriteString(`# ` + title + `

<!-- Generated from the structs in server/config/` + source + `: go test ./config -update (in server/). Do not edit. -->

` + "`certbound " + command + " --config FILE`" + ` reads one YAML file (JSON is YAML, too).
` + "`certbound config example" + flag + "`" + ` prints a commented one to start from, ` + "`certbound config check" + flag + " FILE`" + ` looks
for faults, all at once and with line and column, and prints what is in force, without secrets.
` + "`certbound config schema" + flag + "`" + ` prints a JSON Schema: most editors complete and check with it.

- **Unknown keys are errors**, and so are keys that stand twice, YAML tags, anchors and aliases.
- **Values from elsewhere.** Any value, secrets and paths above all, can be ` + "`env:NAME`" + ` (an environment variable,
  which has to be set and not empty) or ` + "`file:PATH`" + ` (the content of a file, without its last line end). A value that
  begins with one of these words is written with ` + "`text:`" + ` in front.
- **Relative paths** count from the folder of the configuration file.
- **Durations** have units: ` + "`90s`, `5m`, `24h`, `30d`, `1h30m`" + `.
- Names that begin with ` + "`insecure_`" + ` weaken the protection that their section is for.

`)
	top := &field{kind: kindSection}
	var sections []*field
	for _, c := range root.children {
		if c.kind == kindSection || c.kind == kindList && c.elem.kind == kindSection {
			sections = append(sections, c)
		} else {
			top.children = append(top.children, c)
		}
	}
	writeTable(&b, top)
	for _, c := range sections {
		writeSection(&b, c.name, c)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeSection(b *strings.Builder, path string, f *field) {
	doc := f.doc
	if f.kind == kindList {
		path += "[]"
		f = f.elem
	}
	b.WriteString("## `" + path + "`\n\n" + doc + "\n\n")
	plain := &field{kind: kindSection}
	var sections []*field
	for _, c := range f.children {
		if c.kind == kindSection || c.kind == kindList && c.elem.kind == kindSection {
			sections = append(sections, c)
		} else {
			plain.children = append(plain.children, c)
		}
	}
	writeTable(b, plain)
	for _, c := range sections {
		writeSection(b, path+"."+c.name, c)
	}
}

func writeTable(b *strings.Builder, f *field) {
	if len(f.children) == 0 {
		return
	}
	b.WriteString("| key | value | default | |\n| --- | --- | --- | --- |\n")
	for _, c := range f.children {
		def := "–"
		switch {
		case c.required:
			def = "**required**"
		case c.hasDef && c.kind == kindList:
			def = "`" + strings.Join(splitList(c.def), "`, `") + "`"
		case c.hasDef && c.def != "":
			def = "`" + c.def + "`"
		}
		value := c.typeText()
		if len(c.enum) > 0 {
			value = "`" + strings.Join(c.enum, "`, `") + "`"
			if c.kind == kindList {
				value = "list of " + value
			}
		}
		b.WriteString("| `" + c.name + "` | " + value + " | " + def + " | " + strings.ReplaceAll(c.doc, "|", `\|`) + " |\n")
	}
	b.WriteByte('\n')
}
