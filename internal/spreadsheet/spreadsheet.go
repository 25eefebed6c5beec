// Package spreadsheet writes tables as files that office programs open: .xlsx
// and CSV. Rows are written as they come, so a table of any length needs little
// memory.
package spreadsheet

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"

	"github.com/xuri/excelize/v2"
)

// MaxRows is how many rows a sheet of .xlsx holds, with its header.
const MaxRows = excelize.TotalRows

// Types of the files, for Content-Type.
const (
	XLSXType = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	CSVType  = "text/csv; charset=utf-8"
)

// Rows calls each for every row of a table, in order; it returns the first error of each.
type Rows func(each func(row []any) error) error

// XLSX writes a workbook of one sheet. Cells are strings, integers, floats and booleans.
func XLSX(w io.Writer, sheet string, header []string, rows Rows) (err error) {
	f := excelize.NewFile()
	defer f.Close()
	if err := f.SetSheetName("Sheet1", sheet); err != nil {
		return err
	}
	out, err := f.NewStreamWriter(sheet)
	if err != nil {
		return err
	}
	line := 0
	write := func(row []any) error {
		line++
		if line > MaxRows {
			return fmt.Errorf("spreadsheet: more than %d rows: choose a shorter time", MaxRows)
		}
		at, err := excelize.CoordinatesToCellName(1, line)
		if err != nil {
			return err
		}
		return out.SetRow(at, row)
	}
	head := make([]any, len(header))
	for i, h := range header {
		head[i] = h
	}
	if err := write(head); err != nil {
		return err
	}
	if err := rows(write); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return f.Write(w)
}

// CSV writes comma-separated values with a byte order mark, by which office programs know UTF-8. A text that these
// would take for a formula is quoted: it comes from tenants.
func CSV(w io.Writer, header []string, rows Rows) error {
	if _, err := io.WriteString(w, "\ufeff"); err != nil {
		return err
	}
	out := csv.NewWriter(w)
	if err := out.Write(header); err != nil {
		return err
	}
	err := rows(func(row []any) error {
		line := make([]string, len(row))
		for i, cell := range row {
			text, isText := cell.(string)
			if !isText {
				text = fmt.Sprint(cell)
			} else if strings.IndexAny(text, "=+-@\t\r") == 0 {
				text = "'" + text
			}
			line[i] = text
		}
		return out.Write(line)
	})
	if err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}
