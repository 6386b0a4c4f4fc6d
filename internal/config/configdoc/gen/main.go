// Command gen writes what package configdoc makes of the settings: the page and the
// JSON Schemas of the documents, and the file of the defaults for a package.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"sallyport/internal/config"
	"sallyport/internal/config/configdoc"
)

func main() {
	docs := flag.String("docs", "", "write settings.md and the JSON Schemas into this `directory`")
	file := flag.String("default", "", "write the commented file of the defaults to this `file`")
	system := flag.String("system", string(config.Linux), "make -default for this `system`: linux, macos or windows")
	schema := flag.String("schema", "", "have -default name this `URL` of its JSON Schema, for editors")
	flag.Parse()
	if flag.NArg() > 0 || *docs == "" && *file == "" || !slices.Contains(configdoc.Systems, config.System(*system)) {
		flag.Usage()
		os.Exit(2)
	}
	if *docs != "" {
		write(filepath.Join(*docs, "settings.md"), configdoc.Markdown())
		for _, sys := range configdoc.Systems {
			write(filepath.Join(*docs, "schema", configdoc.SchemaName(sys)), configdoc.Schema(sys))
		}
	}
	if *file != "" {
		write(*file, configdoc.DefaultFile(config.System(*system), *schema))
	}
}

func write(path string, b []byte) {
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
