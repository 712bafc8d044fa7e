// Renders the templates named on the command line with Go's own engine, as Helm does: values and the rest of the scope
// come as JSON on standard input, and the functions are those that Helm has and our chart uses.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"
)

func main() {
	var scope map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&scope); err != nil {
		panic(err)
	}
	functions := template.FuncMap{
		"default": func(other, value any) any {
			if value == nil || value == "" || value == false {
				return other
			}
			return value
		},
		"contains": func(part, whole string) bool { return strings.Contains(whole, part) },
		"quote":    func(value any) string { return fmt.Sprintf("%q", fmt.Sprint(value)) },
		"toJson": func(value any) string {
			text, err := json.Marshal(value)
			if err != nil {
				panic(err)
			}
			return string(text)
		},
	}
	for _, path := range os.Args[1:] {
		text, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		parsed := template.Must(template.New(path).Funcs(functions).Option("missingkey=error").Parse(string(text)))
		fmt.Println("---")
		if err := parsed.Execute(os.Stdout, scope); err != nil {
			panic(err)
		}
		fmt.Println()
	}
}
